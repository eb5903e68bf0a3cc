/* Making elements, and finding places in sorted lists.

   el("p", {class: "soft"}, "text", child)     an HTML element
   svg("line", {x1: 0, y1: 0})                 an SVG element
   Text is always put in as text, never as HTML: what a run says can't become part of the page. The page's policy allows
   no style attributes, so a style is set as a property: hue(element, term). */

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

function el(name, attributes, ...children) {
  return make(document.createElement(name), attributes, children);
}

function svg(name, attributes, ...children) {
  return make(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

/* The colour of a term: neighbours differ by far more than a shade. */
function hue(element, term) {
  element.style.setProperty("--hue", String((term * 67 + 190) % 360));
  return element;
}

/* How many of a sorted list's values are ≤ value. */
function countUpTo(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* The last of a sorted list before a value, and the first after it; undefined if there is none. */
function before(values, value) {
  return values[countUpTo(values, value - 1) - 1];
}

function after(values, value) {
  return values[countUpTo(values, value)];
}
