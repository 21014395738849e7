// One stream per page. The server sends elements; each replaces the one with its id. A hidden tab closes the stream and
// gets a whole snapshot when it is shown again.

const LOST_AFTER = 5000 // ms without a connection before the page says that its numbers are old
const SILENT_AFTER = 13000 // ms without a word: the server beats every 5 s, so two beats are missing
const RETRY = [1000, 2000, 4000, 8000, 15000]

let source = null
let paused = false
let lastWord = Date.now()
let lostSince = 0
let failures = 0
let retryAt = 0

export const current = () => !paused && !document.documentElement.hasAttribute("data-lost")

export function install() {
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()))
  document.addEventListener("click", (e) => {
    if (e.target.closest("[data-live-toggle]")) toggle()
    if (e.target.closest("[data-live-retry]")) open()
  })
  // An answer may change what this page follows: {"live": "/live/run?job=…"}.
  document.addEventListener("live", (e) => {
    const main = document.getElementById("main")
    if (main && e.detail.value !== undefined) main.dataset.live = e.detail.value
    open()
  })
  document.addEventListener("htmx:afterSettle", (e) => {
    if (e.detail.elt && e.detail.elt.id === "main") open()
  })
  setInterval(check, 1000)
  window.addEventListener("pagehide", close)
  window.addEventListener("pageshow", (e) => e.persisted && open()) // the browser went back to the page as it was
  open()
}

export function toggle() {
  paused = !paused
  for (const b of document.querySelectorAll("[data-live-toggle]")) {
    b.setAttribute("aria-pressed", String(!paused))
    b.querySelector("span").textContent = paused ? "Paused" : "Live"
  }
  if (paused) close()
  else open()
}

function open() {
  close()
  const url = document.getElementById("main")?.dataset.live
  if (!url || paused || document.hidden) return
  lastWord = Date.now()
  retryAt = 0
  source = new EventSource(url)
  source.onopen = heard
  source.addEventListener("beat", heard)
  source.addEventListener("parts", (e) => {
    heard()
    htmx.swap(document.body, e.data, { swapStyle: "none" })
    document.dispatchEvent(new CustomEvent("parts"))
  })
  source.addEventListener("signedout", () => location.reload())
  source.onerror = () => {
    lostSince ||= Date.now()
    if (source && source.readyState === EventSource.CLOSED) retryLater()
  }
}

function close() {
  source?.close()
  source = null
}

function retryLater() {
  close()
  retryAt = Date.now() + RETRY[Math.min(failures++, RETRY.length - 1)]
}

function heard() {
  lastWord = Date.now()
  lostSince = 0
  failures = 0
  if (!document.documentElement.hasAttribute("data-lost")) return
  document.documentElement.removeAttribute("data-lost")
  document.getElementById("stale").hidden = true
  for (const el of document.querySelectorAll("[data-stale]")) el.removeAttribute("data-stale")
}

// check notices silence, says that the numbers are old, and tries again.
function check() {
  const main = document.getElementById("main")
  if (!main?.dataset.live || paused || document.hidden) return
  const now = Date.now()
  if (source && now - lastWord > SILENT_AFTER) {
    lostSince ||= lastWord
    retryLater()
  }
  if (!source && retryAt && now >= retryAt) open()
  if (!lostSince || now - lostSince < LOST_AFTER) return
  const banner = document.getElementById("stale")
  if (banner.hidden) {
    banner.querySelector("[data-stale-since]").textContent = new Date(lastWord).toLocaleTimeString([], { hour12: false })
    banner.hidden = false
    document.documentElement.setAttribute("data-lost", "")
    for (const el of [main, document.getElementById("sentence")]) el?.setAttribute("data-stale", "")
  }
  const left = retryAt ? Math.max(0, Math.ceil((retryAt - now) / 1000)) : 0
  banner.querySelector("[data-stale-text]").textContent =
    "The stream was lost, the numbers below are from then." + (left ? ` Next try in ${left} s.` : " Trying again.")
}
