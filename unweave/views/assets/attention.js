/* Attention views: thumbnails of heads, one enlarged, and what a token looks at and is looked at by. */
(function () {
  "use strict";
  var THUMB = 76;
  var LABEL = 12;

  function element(tag, name, text) {
    var made = document.createElement(tag);
    if (name) { made.className = name; }
    if (text !== undefined) { made.textContent = text; }
    return made;
  }

  function colour(name, alpha) {
    var value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return alpha === undefined ? value : "rgba(" + value + "," + alpha + ")";
  }

  function written(value) { return value >= 0.995 ? "1" : value.toFixed(2).replace(/^0/, ""); }

  function sharp(canvas, width, height) {
    var ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    var pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  function cells(pen, view, head, left, top, size) {
    var count = view.count();
    var gap = size >= 10 ? 1 : 0;
    for (var query = 0; query < count; query += 1) {
      for (var key = 0; key <= query; key += 1) {
        pen.fillStyle = colour("--blue", Math.max(0.045, view.value(head, query, key)));
        pen.fillRect(left + key * size, top + query * size, size - gap, size - gap);
      }
    }
  }

  function View(root, data) {
    this.root = root;
    this.data = data;
    this.prompt = 0;
    this.head = 0;
    this.token = this.count() - 1;
    this.build();
    this.draw();
  }

  View.prototype.tokens = function () { return this.data.prompts[this.prompt].tokens; };
  View.prototype.count = function () { return this.tokens().length; };
  View.prototype.value = function (head, query, key) {
    return key > query ? 0 : this.data.values[this.prompt][head][query * (query + 1) / 2 + key] / 1000;
  };

  View.prototype.build = function () {
    var view = this;
    if (this.data.prompts.length > 1) { this.root.appendChild(this.chooser()); }
    this.heads = element("div", "att-heads");
    this.heads.setAttribute("role", "group");
    this.heads.setAttribute("aria-label", "heads");
    this.data.heads.forEach(function (name, index) {
      var button = element("button");
      button.type = "button";
      button.appendChild(element("canvas"));
      button.appendChild(element("span", "", name));
      button.addEventListener("click", function () { view.head = index; view.draw(); });
      view.heads.appendChild(button);
    });
    this.root.appendChild(this.heads);
    var large = element("div", "att-large");
    var frame = element("div", "att-map");
    this.map = element("canvas");
    this.map.setAttribute("aria-hidden", "true");
    ["mousemove", "click"].forEach(function (name) {
      view.map.addEventListener(name, function (event) { view.point(event); });
    });
    frame.appendChild(this.map);
    large.appendChild(frame);
    var strips = element("div", "att-strips");
    this.say = element("p", "att-say");
    this.say.setAttribute("aria-live", "polite");
    strips.appendChild(this.say);
    this.sees = this.strip(strips, "what it looks at");
    this.seen = this.strip(strips, "what looks at it");
    large.appendChild(strips);
    this.root.appendChild(large);
  };

  View.prototype.chooser = function () {
    var view = this;
    var label = element("label", "att-prompt", "prompt");
    var select = element("select");
    this.data.prompts.forEach(function (prompt, index) {
      var option = element("option", "", index + 1 + ". " + prompt.text);
      option.value = String(index);
      select.appendChild(option);
    });
    select.addEventListener("change", function () {
      var fromEnd = view.count() - view.token;
      view.prompt = Number(select.value);
      view.token = Math.max(0, view.count() - fromEnd);
      view.draw();
    });
    label.appendChild(select);
    return label;
  };

  View.prototype.strip = function (parent, title) {
    parent.appendChild(element("div", "att-label", title));
    var strip = element("div", "att-tokens");
    strip.setAttribute("role", "group");
    strip.setAttribute("aria-label", title);
    parent.appendChild(strip);
    return strip;
  };

  View.prototype.fill = function (strip) {
    var view = this;
    strip.textContent = "";
    this.tokens().forEach(function (token, index) {
      var button = element("button");
      button.type = "button";
      button.appendChild(element("span", "", token));
      button.appendChild(element("small"));
      function choose() { if (view.token !== index) { view.token = index; view.mark(); } }
      button.addEventListener("mouseenter", choose);
      button.addEventListener("focus", choose);
      button.addEventListener("click", choose);
      button.addEventListener("keydown", function (event) {
        var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        var next = event.key === "Home" ? 0 : event.key === "End" ? view.count() - 1 : index + (step || 0);
        if (step === undefined && event.key !== "Home" && event.key !== "End") { return; }
        event.preventDefault();
        var target = strip.children[Math.min(view.count() - 1, Math.max(0, next))];
        if (target) { target.focus(); }
      });
      strip.appendChild(button);
    });
  };

  View.prototype.draw = function () {
    var view = this;
    [].forEach.call(this.heads.children, function (button, index) {
      button.setAttribute("aria-pressed", String(index === view.head));
      var pen = sharp(button.firstChild, THUMB, THUMB);
      cells(pen, view, index, 0, 0, THUMB / view.count());
    });
    this.fill(this.sees);
    this.fill(this.seen);
    this.mark();
  };

  View.prototype.mark = function () {
    var view = this;
    this.shade(this.sees, "--blue", function (index) { return index <= view.token ? view.value(view.head, view.token, index) : null; });
    this.shade(this.seen, "--orange", function (index) { return index >= view.token ? view.value(view.head, index, view.token) : null; });
    this.tell();
    this.drawMap();
  };

  View.prototype.shade = function (strip, name, value) {
    var view = this;
    [].forEach.call(strip.children, function (button, index) {
      var share = value(index);
      button.tabIndex = index === view.token ? 0 : -1;
      button.style.backgroundColor = share === null ? "transparent" : colour(name, share);
      button.classList.toggle("strong", share !== null && share > 0.6);
      button.classList.toggle("away", share === null);
      button.classList.toggle("chosen", index === view.token);
      button.lastChild.textContent = share !== null && share >= 0.005 ? written(share) : "";
    });
  };

  View.prototype.tell = function () {
    var view = this;
    var tokens = this.tokens();
    var ranked = tokens.slice(0, this.token + 1).map(function (token, index) {
      return { token: token, index: index, share: view.value(view.head, view.token, index) };
    }).sort(function (one, other) { return other.share - one.share; }).slice(0, 3);
    this.say.textContent = "";
    this.say.appendChild(element("b", "", "Head " + this.data.heads[this.head]));
    this.say.appendChild(document.createTextNode(", from "));
    this.say.appendChild(element("code", "", tokens[this.token]));
    this.say.appendChild(document.createTextNode(" (token " + this.token + "): "));
    ranked.filter(function (entry) { return entry.share >= 0.005; }).forEach(function (entry, place) {
      if (place) { view.say.appendChild(document.createTextNode(", ")); }
      view.say.appendChild(element("code", "", entry.token));
      view.say.appendChild(document.createTextNode(" (" + entry.index + ") " + written(entry.share)));
    });
  };

  View.prototype.measure = function () {
    var pen = this.map.getContext("2d");
    pen.font = LABEL + "px " + colour("--mono");
    var longest = Math.max.apply(null, this.tokens().map(function (token) { return pen.measureText(token.slice(0, 14)).width; }));
    var margin = Math.ceil(longest) + 8;
    var room = Math.max(160, Math.min(440, this.root.clientWidth || 440) - margin - 2);
    return { margin: margin, size: Math.max(5, Math.min(24, Math.floor(room / this.count()))) };
  };

  View.prototype.drawMap = function () {
    var view = this;
    var shape = this.measure();
    var side = shape.size * this.count();
    var pen = sharp(this.map, shape.margin + side + 2, shape.margin + side + 2);
    this.shape = shape;
    cells(pen, this, this.head, shape.margin, shape.margin, shape.size);
    if (shape.size >= 9) { this.labels(pen, shape); }
    var at = shape.margin + this.token * shape.size;
    pen.lineWidth = 1.5;
    pen.strokeStyle = colour("--blue", 1);
    pen.strokeRect(shape.margin - 0.5, at - 0.5, (view.token + 1) * shape.size, shape.size);
    pen.strokeStyle = colour("--orange", 1);
    pen.strokeRect(at - 0.5, at - 0.5, shape.size, side - view.token * shape.size);
  };

  View.prototype.labels = function (pen, shape) {
    var view = this;
    pen.font = Math.min(LABEL, shape.size) + "px " + colour("--mono");
    pen.textBaseline = "middle";
    this.tokens().forEach(function (token, index) {
      var at = shape.margin + (index + 0.5) * shape.size;
      pen.fillStyle = colour(index === view.token ? "--ink" : "--soft");
      pen.textAlign = "right";
      pen.fillText(token.slice(0, 14), shape.margin - 5, at);
      pen.save();
      pen.translate(at, shape.margin - 5);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(token.slice(0, 14), 0, 0);
      pen.restore();
    });
  };

  View.prototype.point = function (event) {
    var row = Math.floor((event.offsetY - this.shape.margin) / this.shape.size);
    if (row >= 0 && row < this.count() && event.offsetX >= this.shape.margin && row !== this.token) {
      this.token = row;
      this.mark();
    }
  };

  var roots = [].slice.call(document.querySelectorAll(".attention"));
  var views = [];
  var started = Promise.all(roots.map(async function (root) {
    var data = JSON.parse(await window.unweave.unpack(root.querySelector("script.data").textContent));
    views.push(new View(root.querySelector(".att-view"), data));
  }));
  window.unweave.waits.push(started);
  function again() { views.forEach(function (view) { view.draw(); }); }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  window.addEventListener("beforeprint", again);
  window.addEventListener("afterprint", again);
})();
