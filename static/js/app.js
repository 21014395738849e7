// The dashboard's own script. Pages work as plain HTML first; this adds live updates, keys, dialogs and the run form.
import * as live from "./live.js"
import { watchTimes } from "./time.js"
import { installDialogs } from "./dialogs.js"
import { installKeys } from "./keys.js"
import { installSelection } from "./selection.js"
import { installForm } from "./form.js"
import { installLogs } from "./logs.js"
import { installTheme } from "./theme.js"

// The reader's own state survives what the stream sends: open details, ticked boxes, chosen tabs.
const kept = new Set(["open", "checked", "aria-selected", "aria-pressed", "data-filter", "aria-busy"])
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name) => !kept.has(name)

document.addEventListener("htmx:configRequest", (e) => {
  const token = document.querySelector("meta[name=csrf]")
  if (token) e.detail.headers["X-CSRF-Token"] = token.content
  e.detail.headers["Accept"] = "text/html" // so that a refusal comes as a toast, not as the API's problem document
})

document.addEventListener("htmx:sendError", () => {
  toast("failed", "The server did not answer", "Nothing was changed as far as this page knows.")
})

// An answer without a body of ours, such as a proxy's error page, must not vanish without a word.
document.addEventListener("htmx:beforeSwap", (e) => {
  const type = e.detail.xhr.getResponseHeader("Content-Type") || ""
  if (e.detail.xhr.status >= 400 && !type.startsWith("text/html")) {
    e.detail.shouldSwap = false
    toast("failed", `The server answered ${e.detail.xhr.status}`, "")
  }
})

export function toast(state, title, text) {
  const t = document.createElement("div")
  t.className = "toast"
  t.dataset.state = state
  const words = document.createElement("div")
  const b = document.createElement("b")
  b.className = "strong"
  b.textContent = title
  const p = document.createElement("p")
  p.textContent = text
  words.append(b, p)
  const close = document.createElement("button")
  close.className = "icon-btn sm"
  close.dataset.dismiss = ""
  close.setAttribute("aria-label", "Close")
  close.textContent = "×"
  t.append(words, close)
  document.getElementById("toasts")?.append(t)
}

// Toasts of success leave by themselves; failures stay until closed.
const toasts = document.getElementById("toasts")
if (toasts) {
  new MutationObserver((changes) => {
    for (const c of changes) for (const n of c.addedNodes) {
      if (n instanceof HTMLElement && n.dataset.state === "succeeded") setTimeout(() => n.remove(), 6000)
    }
  }).observe(toasts, { childList: true })
}

// Tabs scroll sideways on phones: show where the reader is.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" })

installTheme()
installDialogs(toast)
installKeys()
installSelection()
installForm()
installLogs()
watchTimes(live.current)
live.install()
