// Buttons with data-copy put that text on the clipboard and say so for a moment.

const SHOWN_MS = 1500;

async function copy(button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    prompt("Copy this:", button.dataset.copy); // no clipboard without permission or a secure origin
    return;
  }
  setTimeout(() => (button.textContent = label), SHOWN_MS);
}

export function watchCopyButtons(root) {
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
}
