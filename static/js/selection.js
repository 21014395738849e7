// Selecting rows of the job list and acting on them, and letting new rows in when nobody is in the way.

let matching = false // everything that the filter matches, not only what is ticked

export function installSelection() {
  document.addEventListener("change", (e) => {
    if (e.target.matches("[data-select-all]")) {
      for (const b of boxes()) b.checked = e.target.checked
    }
    if (e.target.matches("[data-select-all], [data-select]")) {
      matching = false
      draw()
    }
  })
  document.addEventListener("click", (e) => {
    if (e.target.closest("[data-select-none]")) clear()
    if (e.target.closest("[data-select-matching]")) {
      for (const b of boxes()) b.checked = true
      matching = true
      draw()
    }
    const verb = e.target.closest("[data-bulk]")
    if (verb) ask(verb)
  })
  document.addEventListener("htmx:afterRequest", (e) => {
    if (e.detail.successful && e.target.closest?.("#bulk-confirm")) clear()
  })
  document.addEventListener("parts", letIn)
  document.addEventListener("htmx:afterSettle", draw)
  draw()
}

const boxes = () => [...document.querySelectorAll("input[data-select]")]
const chosen = () => boxes().filter((b) => b.checked)

function clear() {
  for (const b of boxes()) b.checked = false
  matching = false
  draw()
}

function draw() {
  const bar = document.querySelector("[data-bulk-bar]")
  if (!bar) return
  const n = chosen().length
  for (const b of boxes()) {
    const tr = b.closest("tr")
    if (b.checked) tr.setAttribute("aria-selected", "true")
    else tr.removeAttribute("aria-selected")
  }
  bar.hidden = n === 0
  const all = document.querySelector("[data-select-all]")
  if (all) {
    all.checked = n > 0 && n === boxes().length
    all.indeterminate = n > 0 && n < boxes().length
  }
  bar.querySelector("[data-count]").textContent = matching ? `${bar.dataset.total} selected` : `${n} selected`
  for (const b of bar.querySelectorAll("[data-bulk]")) b.querySelector("span").textContent = label(b, n, bar)
}

function label(button, n, bar) {
  const count = matching ? bar.dataset.total : n
  return button.dataset.label.replace("{n}", count).replace("{jobs}", !matching && n === 1 ? "job" : "jobs")
}

// ask opens the confirmation, with the count in its button.
function ask(verb) {
  const bar = verb.closest("[data-bulk-bar]")
  const dialog = document.getElementById("bulk-confirm")
  const words = label(verb, chosen().length, bar)
  dialog.querySelector("h2").textContent = words + "?"
  dialog.querySelector("p").textContent = verb.dataset.text
  const go = dialog.querySelector("[data-go]")
  go.textContent = words
  go.className = "btn " + (verb.dataset.bulk === "cancel" ? "btn--danger" : "btn--solid")
  const form = dialog.querySelector("form")
  form.elements.verb.value = verb.dataset.bulk
  form.elements.matching.value = matching ? "1" : ""
  form.elements.ids.value = chosen().map((b) => b.value).join(" ")
  dialog.showModal()
}

// letIn takes new rows in by itself only when the list is at its top and neither pointer nor focus is in it.
function letIn() {
  const more = document.querySelector("[data-new-jobs]")
  const list = document.querySelector("[data-job-list]")
  if (!more || !list || chosen().length || window.scrollY > 0 || list.matches(":hover") || list.contains(document.activeElement)) return
  if (document.querySelector("dialog[open]")) return
  more.click()
}
