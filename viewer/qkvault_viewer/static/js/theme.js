// Before the first paint, so that a dark page never flashes white: the last choice, else the system's.
document.documentElement.dataset.theme = localStorage.getItem("qkvault-theme")
  ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
