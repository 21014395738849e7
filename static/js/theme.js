// The operator's choice overrides the system's; a cookie lets the server draw the page in it at once.

export function installTheme() {
  document.addEventListener("click", (e) => {
    if (!e.target.closest("[data-theme-switch]")) return
    const root = document.documentElement
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches
    root.dataset.theme = dark ? "light" : "dark"
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`
  })
}
