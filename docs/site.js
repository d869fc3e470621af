// What the theme lets scroll, tables and code, is reached by keyboard too; it takes that from code again where it thinks that nothing scrolls.
const reachable = () => {
  for (const box of document.querySelectorAll(":is(.md-typeset__scrollwrap, .md-typeset pre > code):not([tabindex])")) box.tabIndex = 0;
};
new MutationObserver(reachable).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["tabindex"] });
