/* Draws the page's figures as they come near the window, and all of them before it is printed.
   Comments are closed ones only: one notebook joins the lines of a script. */
(function () {
  "use strict";
  var NARROW = 640;
  var nonce = document.currentScript.nonce;
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var plots = [].slice.call(document.querySelectorAll("figure.plot"));
  var folds = [].slice.call(document.querySelectorAll("details"));
  var settings = null;
  var printing = false;

  async function unpack(packed) {
    var bytes = Uint8Array.from(atob(packed), function (letter) { return letter.charCodeAt(0); });
    var stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  /* Other scripts of the page put what they begin here; ready is settled when all of it has been drawn. */
  window.unweave = { unpack: unpack, waits: [] };

  function fitFrame() {
    try {
      window.frameElement.style.height = Math.ceil(document.documentElement.getBoundingClientRect().height + 2) + "px";
    } catch (error) { /* a frame that may not be reached keeps the height it was given */ }
  }
  if (document.body.classList.contains("embedded") && window.ResizeObserver) {
    new ResizeObserver(fitFrame).observe(document.body);
  }

  async function loadPlotly() {
    var script = document.createElement("script");
    script.nonce = nonce;
    script.textContent = await unpack(document.getElementById("plotly").textContent);
    document.head.appendChild(script);
    script.remove();
  }

  /* The layout updates that a figure needs now: colours, and panels side by side or one below another. */
  function updates(plot) {
    var meta = plot.spec.layout.meta || {};
    var narrow = plot.canvas.parentElement.clientWidth < NARROW && !printing;
    var scheme = dark.matches && !printing ? settings.dark : settings.light;
    return Object.assign({}, scheme, (narrow ? meta.narrow : meta.wide) || {});
  }

  /* Updates are keyed by path: xaxis2.domain, annotations[0].x. */
  function put(layout, path, value) {
    var steps = path.replace(/\[(\d+)\]/g, ".$1").split(".");
    var last = steps.pop();
    var place = steps.reduce(function (at, step) {
      if (at[step] === undefined) { at[step] = {}; }
      return at[step];
    }, layout);
    place[last] = value;
  }

  /* Not with Plotly.relayout, which holds the width as it is when it sets a height. */
  function apply(plot, change) {
    var layout = plot.spec.layout;
    plot.state = JSON.stringify(change);
    Object.keys(change).forEach(function (path) { put(layout, path, change[path]); });
    delete layout.width;
    layout.autosize = true;
    plot.canvas.style.height = (layout.height || 420) + "px";
  }

  function draw(plot) {
    if (plot.drawn) { return; }
    plot.drawn = true;
    plot.canvas.classList.remove("waiting");
    apply(plot, updates(plot));
    window.Plotly.newPlot(plot.canvas, plot.spec.data, plot.spec.layout, settings.config);
  }

  function refresh(plot) {
    if (!plot.drawn) { return; }
    var change = updates(plot);
    if (JSON.stringify(change) === plot.state) { return; }
    apply(plot, change);
    window.Plotly.react(plot.canvas, plot.spec.data, plot.spec.layout, settings.config);
  }

  function refreshAll() { plots.forEach(refresh); }

  function whenNear() {
    var watch = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (entry.isIntersecting) { watch.unobserve(entry.target); draw(entry.target); }
      });
    }, { rootMargin: "600px 0px" });
    plots.forEach(function (plot) { watch.observe(plot); });
  }

  /* The rest is drawn while nothing else happens, so that the page can be searched and printed whole. */
  function drawRest() {
    return new Promise(function (resolve) {
      var idle = window.requestIdleCallback || function (call) { setTimeout(call, 30); };
      (function next() {
        var plot = plots.find(function (one) { return !one.drawn; });
        if (!plot) { resolve(); return; }
        idle(function () { draw(plot); next(); });
      })();
    });
  }

  async function start() {
    if (!plots.length) { return; }
    settings = JSON.parse(document.getElementById("settings").textContent);
    await Promise.all([loadPlotly()].concat(plots.map(async function (plot) {
      plot.canvas = plot.querySelector(".canvas");
      plot.spec = JSON.parse(await unpack(plot.querySelector("script.data").textContent));
    })));
    whenNear();
    dark.addEventListener("change", refreshAll);
    window.addEventListener("resize", refreshAll);
    await drawRest();
  }

  function print(now) {
    printing = now;
    document.documentElement.toggleAttribute("data-printing", now);
    if (settings) { plots.forEach(draw); refreshAll(); }
    folds.forEach(function (fold) {
      if (now) { fold.wasOpen = fold.open; }
      fold.open = now || fold.wasOpen;
    });
  }
  window.addEventListener("beforeprint", function () { print(true); });
  window.addEventListener("afterprint", function () { print(false); });

  document.addEventListener("DOMContentLoaded", function () {
    window.unweave.ready = start().then(function () { return Promise.all(window.unweave.waits); }).then(
      function () { document.documentElement.dataset.ready = "yes"; },
      function (error) {
        plots.forEach(function (plot) {
          if (plot.drawn) { return; }
          plot.canvas = plot.querySelector(".canvas");
          plot.canvas.className = "failed";
          plot.canvas.textContent = "This figure could not be drawn (" + error.message + "); it needs a browser of 2023 or later.";
        });
        document.documentElement.dataset.ready = "failed";
      }
    );
  });
})();
