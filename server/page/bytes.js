/* The bytes: a node's file as `metcd dump` prints it, 200 lines at a time, while the node runs.

       #bytes?node=1&file=engine/000007.ldb&at=200        from line 200 on
       #bytes?node=2&file=engine&find=page 12:            from the first line that begins so: what other views link to

   GET /_/bytes lists the files, and gives the lines; server/page_bytes.py says which files those are. What is shown is what
   the file held when it was asked for: "Read again" asks again. */

import {bytes, h, keyed, picture, plural, put, say} from "./svg.js";

const WAIT_MS = 8000;
const MORE = /^More follows: .*&at=(\d+)$/;

export const view = {
  id: "bytes",
  title: "The bytes",
  mount(root, page) {
    return new Bytes(root, page);
  },
};

class Bytes {
  constructor(root, page) {
    this.page = page;
    this.box = picture({
      id: "bytes", title: "The bytes", chapter: [2, "Records that survive a torn write"],
      what: "Every byte that a node has on disk, with what it means: the same lines as metcd dump prints. The formats are those of LevelDB, bbolt and Bitcask, whose own tools read these files, too.",
    });
    this.file = h("select", {id: "bytes-file", "data-testid": "bytes-file", onchange: () => this.go({file: this.file.value})});
    this.find = h("input", {id: "bytes-find", type: "text", spellcheck: "false", autocomplete: "off", "data-testid": "bytes-find", maxlength: 100});
    this.lines = h("pre", {class: "dump", tabindex: 0, role: "region", "aria-label": "Lines of the file", "data-testid": "bytes-lines"});
    this.first = h("button", {type: "button", "data-testid": "bytes-first", onclick: () => this.go({file: this.asked.file})}, "From the start");
    this.next = h("button", {type: "button", "data-testid": "bytes-next", onclick: () => this.go({file: this.asked.file, at: this.nextAt})}, "Next lines");
    this.again = h("button", {type: "button", "data-testid": "bytes-again", onclick: () => this.ask()}, "Read again");
    this.command = h("code", {class: "command"});
    this.box.body.append(
      h("form", {class: "bytes-form", onsubmit: (event) => (event.preventDefault(), this.go({file: this.file.value, find: this.find.value}))},
        h("div", {}, h("label", {for: "bytes-file"}, "File"), this.file),
        h("div", {}, h("label", {for: "bytes-find"}, "A line that begins with"), this.find),
        h("button", {type: "submit", class: "main"}, "Show")),
      this.lines, h("div", {class: "buttons"}, this.first, this.next, this.again));
    root.append(this.box.root);
    this.files = [];
  }

  go(params) {
    const node = this.page.node();
    const kept = Object.fromEntries(Object.entries(params).filter(([, value]) => value));
    this.page.go("bytes", {node: node?.id ?? "", ...kept});
  }

  draw() {
    const node = this.page.node();
    const {file = "", at = "0", find = ""} = this.page.params;
    const wanted = JSON.stringify([node?.id, file, at, find]);
    if (node && wanted !== this.wanted) {
      if (this.listed !== node.id) this.list(node);
      this.wanted = wanted;
      this.asked = {node, file: file.endsWith(".wal") && !file.includes("/") ? `wal/${file}` : file, at, find};
      this.find.value = find;
      this.ask();
    }
    return false;
  }

  async list(node) {
    this.listed = node.id;
    const told = await this.fetch(node, {});
    if (!told?.ok || this.listed !== node.id) return;
    const {files} = await told.json();
    this.show(files);
    if (!this.page.params.file && files.length) this.go({file: (files.find(([name]) => name.startsWith("engine")) ?? files[0])[0]});
  }

  show(files) {
    this.files = files;
    const chosen = this.asked?.file;
    const all = !chosen || files.some(([name]) => name === chosen) ? files : [[chosen, null], ...files];
    keyed(this.file, all, ([name]) => name, ([name]) => h("option", {value: name}), (option, [name, size]) => say(option, size === null ? name : `${name}, ${bytes(size)}`));
    if (chosen) this.file.value = chosen;
  }

  fetch(node, params) {
    return fetch(`${node.url}/_/bytes?${new URLSearchParams(params).toString().replaceAll("+", "%20")}`, {signal: AbortSignal.timeout(WAIT_MS)}).catch(() => null);
  }

  async ask() {
    const asked = this.asked;
    if (!asked.file) return;
    this.show(this.files);
    const response = await this.fetch(asked.node, {file: asked.file, ...(asked.at > 0 ? {at: asked.at} : {}), ...(asked.find ? {find: asked.find} : {})});
    const text = response === null ? "" : await response.text();
    if (asked !== this.asked) return;
    const lines = response?.ok ? text.trimEnd().split("\n") : [];
    this.nextAt = MORE.exec(lines.at(-1) ?? "")?.[1];
    if (this.nextAt) lines.pop();
    say(this.lines, lines.join("\n"));
    this.lines.scrollTop = 0;
    this.next.disabled = !this.nextAt;
    put(this.box.root, {"data-file": asked.file, "data-at": asked.at});
    const failed = response === null ? `${asked.node.name} didn't answer.` : response.ok ? null : JSON.parse(text || "{}").error ?? `${asked.node.name} answered ${response.status}.`;
    const from = asked.find ? `from the line that begins with "${asked.find}"` : `from line ${asked.at}`;
    say(this.box.note, failed ?? `${asked.node.name}, ${asked.file}: ${plural(lines.length, "line")} ${from}; a terminal has the same by metcd dump.`);
    this.lines.hidden = failed !== null;
  }
}
