// GGUF files of the visitor's own, picked or dropped on the page: their first bytes are sent, never the weights.

const FIRST_BYTES = 256 * 1024; // what the server asks for at least
const MIB = 1024 * 1024;

class Refusal extends Error {}

const sum = (sizes) => sizes.reduce((total, size) => total + size, 0);

// Sends as much of each file as the server asks for until it knows the model.
async function describe(url, files, { signal, onProgress }) {
  let sizes = files.map((file) => Math.min(file.size, FIRST_BYTES));
  let sent = 0;
  for (;;) {
    onProgress(sent, sum(sizes));
    const body = new FormData();
    files.forEach((file, index) => body.append("file", file.slice(0, sizes[index]), file.name));
    const reply = await fetch(url, { method: "POST", body, signal });
    const answer = await reply.json();
    if (reply.status !== 206) {
      if (!reply.ok) throw new Refusal(answer.error.message);
      return answer;
    }
    sent = sum(sizes);
    const next = files.map((file, index) => Math.min(file.size, answer.needed[index]));
    const short = files.findIndex((file, index) => answer.needed[index] > file.size && sizes[index] === file.size);
    if (short >= 0) throw new Refusal(`${files[short].name} ends before its header does`);
    sizes = next;
  }
}

function control() {
  const input = document.getElementById("file");
  const part = (name) => input.parentElement.querySelector(name);
  return { input, error: part(".failure"), reading: part(".reading"), bar: part("progress"), size: part(".reading span") };
}

function showProgress(sent, wanted) {
  const { bar, size, reading } = control();
  reading.hidden = false;
  bar.max = wanted;
  bar.value = sent;
  size.textContent = `${(wanted / MIB).toFixed(1)} MiB`;
}

function showError(message) {
  const { input, error, reading } = control();
  reading.hidden = true;
  error.hidden = !message;
  error.textContent = message;
  if (message) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

// Calls onModel with the facts of a model whenever files have become one, onProjector with the bytes of a projector.
export function watchFiles(form, { onModel, onProjector }) {
  let pending = new AbortController();

  async function take(files) {
    pending.abort();
    if (!files.length) return;
    const { signal } = (pending = new AbortController());
    showError("");
    try {
      const answer = await describe(control().input.dataset.reader, [...files], { signal, onProgress: showProgress });
      if (answer.mmproj !== null) await onProjector(answer.mmproj);
      else if (answer.facts) await onModel(answer.facts);
      else throw new Refusal(answer.warnings.map((warning) => warning.text).join("; "));
      showError("");
    } catch (error) {
      if (error.name === "AbortError") return;
      showError(error instanceof Refusal ? error.message : "the file could not be read or sent; try again");
    }
  }

  form.addEventListener("input", (event) => {
    if (event.target.type === "file") return;
    pending.abort();
    showError("");
  });
  form.addEventListener("change", (event) => event.target.type === "file" && take(event.target.files));

  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (is) => document.documentElement.classList.toggle("dropping", is);
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    mark(false);
    const { input } = control();
    input.files = event.dataTransfer.files;
    take(input.files);
  });
}
