// A log follows its end while it is scrolled there. While somebody reads further up, or has marked some of it, it stands
// still: its lines would move away under the eyes.

const away = new WeakSet() // logs that are scrolled away from their end
const held = new WeakMap() // log → what the server sent since

export function installLogs() {
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, next) => {
    if (!isLog(old) || !read(old)) return true
    held.set(old, next)
    return false
  }
  document.addEventListener("scroll", (e) => {
    const log = e.target
    if (!isLog(log)) return
    if (log.scrollTop + log.clientHeight > log.scrollHeight - 8) away.delete(log)
    else away.add(log)
    release(log)
  }, true)
  document.addEventListener("selectionchange", () => logs().forEach(release))
  document.addEventListener("parts", () => logs().forEach(follow))
  window.addEventListener("load", () => logs().forEach(follow))
}

const logs = () => document.querySelectorAll("[data-follow]")
const isLog = (e) => e instanceof HTMLElement && e.dataset.follow !== undefined

function read(log) {
  const marked = getSelection()
  return away.has(log) || (!marked.isCollapsed && log.contains(marked.anchorNode))
}

function follow(log) {
  if (!read(log)) log.scrollTop = log.scrollHeight
}

// release shows what a log missed.
function release(log) {
  const next = held.get(log)
  if (!next || read(log)) return
  held.delete(log)
  Idiomorph.morph(log, next)
  follow(log)
}
