// The table of all pairs of K and V types is loaded when it is opened: it takes as long as many pages.

const NAME = "pairs"; // id of the <details>, and the fragment of links that want it open

async function fill(details) {
  const place = details.querySelector("[data-source]");
  if (!details.open || !place || place.getAttribute("aria-busy") === "true") return;
  place.setAttribute("aria-busy", "true");
  try {
    const reply = await fetch(place.dataset.source, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    place.replaceWith(document.adoptNode(page.getElementById("matrix") ?? page.querySelector("main .card")));
  } catch {
    place.removeAttribute("aria-busy"); // the link in it still leads to the table
  }
}

// Loads it whenever it is opened, and at once where the address asks for it.
export function watchPairs() {
  document.addEventListener("toggle", (event) => event.target.id === NAME && fill(event.target), true);
  const details = document.getElementById(NAME);
  if (details && location.hash === `#${NAME}`) details.open = true;
}

// Whether it is open now; given to keepPairs once another answer is in place.
export const arePairsOpen = () => document.getElementById(NAME)?.open ?? false;

export function keepPairs(open) {
  const details = document.getElementById(NAME);
  if (details) details.open ||= open;
}
