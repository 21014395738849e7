// Buttons that open dialogs, copy text, switch code samples and close toasts; one listener for the whole document, so
// that what the stream brings needs no set-up.

export function installDialogs(toast) {
  document.addEventListener("click", (e) => {
    const opens = e.target.closest("[data-opens]")
    if (opens) document.getElementById(opens.dataset.opens)?.showModal()
    if (e.target.closest("[data-shuts]")) e.target.closest("dialog")?.close()
    if (e.target.closest("[data-search]")) document.getElementById("search")?.showModal()
    if (e.target.closest("[data-dismiss]")) e.target.closest(".toast")?.remove()
    // A click on the backdrop has the dialog itself as its target.
    if (e.target instanceof HTMLDialogElement && e.target.dataset.once === undefined) e.target.close()
    for (const m of document.querySelectorAll("details.menu[open]")) if (!m.contains(e.target)) m.open = false
    copy(e.target, toast)
    show(e.target)
  })
  document.addEventListener("htmx:afterRequest", (e) => {
    const form = e.target.closest?.("form[data-closes]")
    if (form && e.detail.successful) form.closest("dialog")?.close()
  })
}

async function copy(target, toast) {
  const button = target.closest("[data-copy], [data-copy-from]")
  if (!button) return
  const from = button.dataset.copyFrom
  const text = from ? document.querySelector(`#${CSS.escape(from)} pre, #${CSS.escape(from)} ol`)?.innerText : button.dataset.copy
  try {
    await navigator.clipboard.writeText(text)
    toast("succeeded", "Copied", "")
  } catch {
    toast("failed", "Copying was not allowed", "Select the text and copy it by hand.")
  }
}

// show switches between code samples, and filters logs by level.
function show(target) {
  const tab = target.closest("[data-shows]")
  if (tab) {
    const box = tab.closest("[data-samples]")
    for (const b of box.querySelectorAll("[data-shows]")) {
      b.setAttribute("aria-pressed", String(b === tab))
      box.querySelector(`#${CSS.escape(b.dataset.shows)}`).hidden = b !== tab
    }
  }
  const level = target.closest("[data-level]")
  if (level) {
    for (const b of level.parentElement.querySelectorAll("[data-level]")) b.setAttribute("aria-pressed", String(b === level))
    document.getElementById(level.dataset.log)?.setAttribute("data-filter", level.dataset.level)
  }
}
