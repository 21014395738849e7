// A log follows its end while it is scrolled there. While somebody reads further up, or has marked some of it, it stands
// still: its lines would move away under the eyes.

const tops = new WeakMap() // log → where it was scrolled to when last looked at
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
    if (isLog(log)) release(log)
  }, true)
  document.addEventListener("selectionchange", () => logs().forEach(release))
  document.addEventListener("parts", () => logs().forEach(follow))
  logs().forEach(follow)
  window.addEventListener("load", () => logs().forEach(follow))
}

const logs = () => document.querySelectorAll("[data-follow]")
const isLog = (e) => e instanceof HTMLElement && e.dataset.follow !== undefined

// read says whether somebody reads a log. It looks for itself: the event of a scroll may still be on its way.
function read(log) {
  if (tops.has(log) && tops.get(log) !== log.scrollTop) {
    tops.set(log, log.scrollTop)
    if (log.scrollTop + log.clientHeight > log.scrollHeight - 8) away.delete(log)
    else away.add(log)
  }
  const marked = getSelection()
  return away.has(log) || (!marked.isCollapsed && log.contains(marked.anchorNode))
}

function follow(log) {
  if (read(log)) return
  log.scrollTop = log.scrollHeight
  tops.set(log, log.scrollTop)
}

// release shows what a log missed.
function release(log) {
  const next = held.get(log)
  if (!next || read(log)) return
  held.delete(log)
  Idiomorph.morph(log, next)
  follow(log)
}
