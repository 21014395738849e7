// Ages, running times and countdowns go on between two words of the server. The forms are those of app/web/format.go.

export function watchTimes(current) {
  setInterval(() => {
    if (document.hidden || !current()) return
    for (const t of document.querySelectorAll("time[data-tick]")) {
      const at = Date.parse(t.dateTime)
      if (Number.isNaN(at)) continue
      const text = words(t.dataset.tick, (t.dataset.tick === "left" ? at - Date.now() : Date.now() - at) / 1000)
      const full = text + (t.dataset.suffix || "")
      if (t.textContent !== full) t.textContent = full
    }
  }, 1000)
}

function words(tick, seconds) {
  const s = Math.max(0, seconds)
  if (tick === "ran" && s < 60) return `${s.toFixed(1)} s`
  return clock(s)
}

function clock(seconds) {
  const s = Math.floor(seconds)
  if (s < 3600) return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`
}
