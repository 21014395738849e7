import { toggle } from "./live.js"

// Keyboard: / search, g then a letter for a page, arrows in lists, x selects, p pauses, ? help.

const pages = { r: "/run", o: "/overview", j: "/jobs", g: "/gpus" }
let afterG = 0
let at = "" // id of the row under the keyboard's cursor: the row itself may be replaced at any time

export function installKeys() {
  document.addEventListener("parts", mark)
  document.addEventListener("htmx:afterSettle", mark)
  document.addEventListener("keydown", (e) => {
    if ((e.ctrlKey || e.metaKey) && e.key === "Enter") {
      document.querySelector("form[data-run]")?.requestSubmit()
      return
    }
    if (e.ctrlKey || e.metaKey || e.altKey || typing(e.target) || document.querySelector("dialog[open]")) return
    if (Date.now() - afterG < 1000 && pages[e.key]) {
      location.href = pages[e.key]
      return
    }
    afterG = 0
    switch (e.key) {
      case "g": afterG = Date.now(); break
      case "/": e.preventDefault(); document.getElementById("search")?.showModal(); break
      case "?": document.getElementById("help")?.showModal(); break
      case "p": toggle(); break
      case "ArrowDown": case "j": move(e, 1); break
      case "ArrowUp": case "k": move(e, -1); break
      case "x": row()?.querySelector("input[type=checkbox]")?.click(); break
      case "Enter": if (document.activeElement === document.body) row()?.querySelector("a.id")?.click(); break
    }
  })
}

const typing = (t) => t instanceof HTMLElement && (t.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName)) && t.type !== "checkbox"
const row = () => document.getElementById(at)

function move(e, by) {
  const rows = [...document.querySelectorAll("tr[data-row]")]
  if (!rows.length) return
  e.preventDefault()
  const now = row()
  const next = rows[Math.min(rows.length - 1, Math.max(0, now ? rows.indexOf(now) + by : 0))]
  at = next.id
  mark()
  next.scrollIntoView({ block: "nearest" })
}

// mark shows where the cursor is, also in rows that the server just sent.
function mark() {
  for (const tr of document.querySelectorAll("tr[data-row][aria-current]")) if (tr.id !== at) tr.removeAttribute("aria-current")
  row()?.setAttribute("aria-current", "true")
}
