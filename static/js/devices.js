// Devices are typed, and browsed for in the list beside each field.

export const isDevice = (field) => field?.name === "device";

// What was browsed for goes where devices are typed.
export function takePicked(form) {
  for (const list of form.querySelectorAll("[name=pick]")) {
    if (!list.value) continue;
    list.parentElement.querySelector("[name=device]").value = list.value === "remove" ? "" : list.value;
    list.value = "";
  }
}

// Calls onChange when a device was removed. A field that is entered is typed over.
export function watchDevices(form, { onChange }) {
  form.addEventListener("focusin", ({ target }) => isDevice(target) && setTimeout(() => target.select()));
  form.addEventListener("click", (event) => {
    if (!event.target.matches("[data-remove]")) return;
    event.target.parentElement.querySelector("[name=device]").value = "";
    onChange();
  });
}
