// The run form: sliders beside their numbers, random seeds, counters, and files dropped anywhere on their field.

export function installForm() {
  document.addEventListener("input", (e) => {
    const pair = e.target.dataset?.pair
    if (pair) document.getElementById(pair).value = e.target.value
    const counter = e.target.id && document.querySelector(`[data-counts="${CSS.escape(e.target.id)}"]`)
    if (counter) counter.textContent = `${[...e.target.value].length}`
    if (e.target.matches("[data-find]")) find(e.target)
  })
  document.addEventListener("click", (e) => {
    const dice = e.target.closest("[data-random]")
    if (dice) {
      const pair = crypto.getRandomValues(new Uint32Array(2))
      // 53 bits: a seed beyond that would be rounded by every JSON reader that knows only doubles.
      document.getElementById(dice.dataset.random).value = String((pair[0] & 0x1fffff) * 0x100000000 + pair[1])
    }
    if (e.target.closest("[data-reset]")) location.href = e.target.closest("[data-reset]").dataset.reset
  })
  // What is wrong must be seen, also in a part of the form that is closed: first what the browser refuses, then what the
  // server does.
  document.addEventListener("invalid", (e) => {
    const d = e.target.closest("form[data-run] details")
    if (d) d.open = true
  }, true)
  document.addEventListener("htmx:afterRequest", (e) => {
    if (!e.target.matches?.("form[data-run]")) return
    for (const d of e.target.querySelectorAll("details:has(.err)")) d.open = true
    e.target.querySelector("[aria-invalid=true]")?.focus()
  })
  // On a phone the result stands above the form that was sent: show it.
  document.addEventListener("live", () => {
    const result = document.querySelector(".runpage .result")
    if (result && result.getBoundingClientRect().top < 0) result.scrollIntoView({ block: "start" })
  })
  document.addEventListener("htmx:beforeRequest", (e) => e.target.closest?.(".drop")?.setAttribute("aria-busy", "true"))
  document.addEventListener("htmx:afterRequest", (e) => e.target.closest?.(".drop")?.removeAttribute("aria-busy"))
  document.addEventListener("htmx:xhr:progress", (e) => {
    const busy = e.target.closest?.(".drop")?.querySelector("[data-sent]")
    if (busy && e.detail.lengthComputable) busy.textContent = `${Math.round((100 * e.detail.loaded) / e.detail.total)} % sent`
  })
}

function find(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean)
  for (const li of document.querySelectorAll("[data-findable]")) {
    const text = li.dataset.findable.toLowerCase()
    li.hidden = !words.every((w) => text.includes(w))
  }
}
