// Tables that the theme lets scroll are reached by keyboard too.
new MutationObserver(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) box.tabIndex = 0;
}).observe(document, { childList: true, subtree: true });
