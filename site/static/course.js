// "Report a problem" names the section that is being read when the link is used.
document.addEventListener("click", ({ target }) => {
  const link = target.closest("a[href*='/issues/new']");
  if (!link) return;
  const headings = [...document.querySelectorAll("article :is(h1, h2, h3)")];
  const above = headings.filter((it) => it.getBoundingClientRect().top < 150);
  const address = new URL(link.href);
  address.searchParams.set("section", above.at(-1)?.firstChild.textContent ?? "");
  link.href = address;
});

// A formula that is wider than the page scrolls, so the arrow keys must reach it.
window.addEventListener("load", () => {
  const formulas = "mjx-container[display='true']";
  const reach = () => {
    for (const it of document.querySelectorAll(formulas)) {
      it.tabIndex = it.scrollWidth > it.clientWidth ? 0 : -1;
    }
  };
  window.MathJax?.startup.promise.then(reach);
  window.addEventListener("resize", reach);
});

// Paper is white, so the dark theme is put aside while a page is printed.
const root = document.documentElement.dataset;
window.addEventListener("beforeprint", () => {
  [root.before, root.theme] = [root.theme, "light"];
});
window.addEventListener("afterprint", () => {
  root.theme = root.before;
});
