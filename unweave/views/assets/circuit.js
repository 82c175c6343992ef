/* Circuit drawings: what is known of a head or a path under the pointer, and a slider that hides weak paths.
   The drawing itself is in the page already. */
(function () {
  "use strict";
  var HINT = "Point at a head or a path to see what is known of it; arrow keys go from one to the next.";

  function element(tag, name, text) {
    var made = document.createElement(tag);
    if (name) { made.className = name; }
    if (text !== undefined) { made.textContent = text; }
    return made;
  }

  function all(root, selector) { return [].slice.call(root.querySelectorAll(selector)); }

  function Drawing(root) {
    this.root = root;
    this.view = root.querySelector(".circuit-view");
    this.svg = this.view.querySelector("svg");
    this.nodes = all(this.svg, ".node");
    this.links = all(this.svg, ".link").sort(function (one, other) { return one.dataset.rank - other.dataset.rank; });
    this.shown = this.links.length;
    this.take();
    if (this.links.length > 1) { this.slider(); }
    this.say = element("p", "circuit-say", HINT);
    this.say.setAttribute("aria-live", "polite");
    this.view.after(this.say);
    this.listen();
  }

  /* The titles become labels: a browser's own tooltip would cover the drawing. */
  Drawing.prototype.take = function () {
    this.nodes.concat(this.links).forEach(function (item) {
      var title = item.querySelector("title");
      item.setAttribute("aria-label", title.textContent);
      title.remove();
    });
  };

  Drawing.prototype.slider = function () {
    var drawing = this;
    var bar = element("div", "circuit-bar");
    var label = element("label", "", "paths shown ");
    var input = element("input");
    input.type = "range";
    input.min = "1";
    input.max = String(this.links.length);
    input.value = this.root.dataset.start;
    var output = element("output");
    function change() { output.textContent = drawing.show(Number(input.value)); }
    input.addEventListener("input", change);
    label.appendChild(input);
    bar.appendChild(label);
    bar.appendChild(output);
    this.view.before(bar);
    change();
  };

  Drawing.prototype.show = function (count) {
    this.shown = count;
    this.links.forEach(function (link, rank) { link.classList.toggle("off", rank >= count); });
    this.rove(this.links.slice(0, count));
    this.fade();
    var size = this.links[count - 1].dataset.size;
    var weakest = size === undefined ? "" : ", of size " + Number(size).toPrecision(2) + " and more";
    return count + " of " + this.links.length + weakest;
  };

  /* A node all of whose paths are hidden steps back. */
  Drawing.prototype.fade = function () {
    var links = this.links;
    this.nodes.forEach(function (node) {
      var own = links.filter(function (link) { return [link.dataset.from, link.dataset.to].indexOf(node.dataset.node) >= 0; });
      node.classList.toggle("bare", own.length > 0 && own.every(function (link) { return link.classList.contains("off"); }));
    });
  };

  /* One of them is reached with the tab key, the others from there with arrow keys. */
  Drawing.prototype.rove = function (items) {
    items.forEach(function (item, place) { item.setAttribute("tabindex", place ? "-1" : "0"); });
  };

  Drawing.prototype.listen = function () {
    var drawing = this;
    this.rove(this.nodes);
    this.rove(this.links.slice(0, this.shown));
    this.nodes.concat(this.links).forEach(function (item) {
      ["mouseenter", "focus", "click"].forEach(function (name) {
        item.addEventListener(name, function () { drawing.ask(item); });
      });
      item.addEventListener("blur", function () { drawing.ask(null); });
      item.addEventListener("keydown", function (event) { drawing.step(item, event); });
    });
    this.svg.addEventListener("mouseleave", function () { drawing.ask(null); });
  };

  Drawing.prototype.step = function (item, event) {
    var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) { return; }
    event.preventDefault();
    var items = item.classList.contains("node") ? this.nodes : this.links.slice(0, this.shown);
    var next = items[Math.min(items.length - 1, Math.max(0, items.indexOf(item) + step))];
    item.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  };

  Drawing.prototype.ask = function (item) {
    all(this.svg, ".lit, .chosen").forEach(function (one) { one.classList.remove("lit", "chosen"); });
    this.svg.classList.toggle("asked", Boolean(item));
    this.say.textContent = item ? item.getAttribute("aria-label") : HINT;
    if (!item) { return; }
    item.classList.add("lit", "chosen");
    var drawing = this;
    var own = item.dataset.node;
    this.links.forEach(function (link) {
      var ends = [link.dataset.from, link.dataset.to];
      if (link !== item && ends.indexOf(own) < 0) { return; }
      link.classList.add("lit");
      ends.forEach(function (end) {
        if (!link.classList.contains("off")) { drawing.nodes[Number(end)].classList.add("lit"); }
      });
    });
  };

  all(document, "figure.circuit").forEach(function (root) { return new Drawing(root); });
})();
