// Selecting rows of the job list and acting on them, and letting new rows in when nobody is in the way.

let matching = false // everything that the filter matches, not only what is ticked
const ticked = new Set() // ids of jobs: their rows may be replaced at any time

export function installSelection() {
  document.addEventListener("change", (e) => {
    const touched = e.target.matches("[data-select-all]") ? boxes() : e.target.matches("[data-select]") ? [e.target] : []
    for (const b of touched) {
      if (e.target.checked) ticked.add(b.value)
      else ticked.delete(b.value)
    }
    if (!touched.length) return
    matching = false
    draw()
  })
  document.addEventListener("click", (e) => {
    if (e.target.closest("[data-select-none]")) clear()
    if (e.target.closest("[data-select-matching]")) {
      for (const b of boxes()) ticked.add(b.value)
      matching = true
      draw()
    }
    const verb = e.target.closest("[data-bulk]")
    if (verb) ask(verb)
  })
  document.addEventListener("htmx:afterRequest", (e) => {
    if (e.detail.successful && e.target.closest?.("#bulk-confirm")) clear()
  })
  document.addEventListener("parts", () => {
    draw()
    letIn()
  })
  document.addEventListener("htmx:afterSettle", draw)
  for (const b of boxes()) if (b.checked) ticked.add(b.value) // a browser that goes back ticks boxes by itself
  draw()
}

const boxes = () => [...document.querySelectorAll("input[data-select]")]
const chosen = () => boxes().filter((b) => ticked.has(b.value))

function clear() {
  ticked.clear()
  matching = false
  draw()
}

// draw shows what is selected, also in rows that the server just sent. What has left the page is not selected any more:
// nobody acts on jobs that they do not see.
function draw() {
  const here = new Set(boxes().map((b) => b.value))
  for (const id of ticked) if (!here.has(id)) ticked.delete(id)
  const bar = document.querySelector("[data-bulk-bar]")
  if (!bar) return
  const n = chosen().length
  for (const b of boxes()) {
    b.checked = ticked.has(b.value)
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
  if (document.activeElement?.matches("input[name=add]")) return // a filter is being typed
  if (document.querySelector("dialog[open]")) return
  more.click()
}
