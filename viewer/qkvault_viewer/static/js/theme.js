// Before the first paint, so that a dark page never flashes white: the last choice, else the system's.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("qkvault-theme");
  } catch {
    // The browser keeps nothing: the system's choice it is.
  }
  document.documentElement.dataset.theme = chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}
