/* What isn't built yet: on a learner's own packages (`metcd learn serve`) an engine whose chapters are not written runs on no
   node, and this panel says which chapter builds it. Everywhere else it is empty. */

import {h, missing} from "./svg.js";

export const panel = {
  mount(root) {
    root.hidden = true;
    fetch("/_/page/nodes.json").then((answer) => answer.json()).then((told) => {
      const entries = told.missing ?? [];
      if (entries.length === 0) return;
      root.hidden = false;
      root.replaceChildren(h("section", {class: "picture", "data-testid": "missing", "aria-label": "What isn't built yet"},
        ...entries.map(([what, chapter, title]) => missing(`The engine ${what}`, [chapter, title]))));
    }, () => {}); // a node that is gone says so in the header
    return {draw() {}};
  },
};
