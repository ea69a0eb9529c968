// <fit-chart data-figure="id">: draws the figure that the server wrote as JSON, in the colours of the style sheet.

const OPTIONS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A role such as "kv_cache" has a colour of its own; "type-2" and "device-1" take the series by number.
function roleColour(role) {
  const series = /-(\d+)$/.exec(role);
  return colour(series ? `series-${series[1] % 4}` : role === "crossing" ? "limit" : role);
}

function painted(trace) {
  const shade = roleColour(trace.meta);
  const copy = { ...trace, line: { ...trace.line, color: shade } };
  if (trace.stackgroup) Object.assign(copy, { fillcolor: shade, line: { width: 0, color: shade } });
  if (trace.marker) Object.assign(copy, { marker: { ...trace.marker, color: shade }, textfont: { color: colour("ink"), size: trace.type === "bar" ? 12 : 14 } });
  return copy;
}

const NARROW = 520; // pixels: the legend goes below, where it does not take the chart's height (bars are drawn higher)

function themed(layout, width) {
  const axis = { gridcolor: colour("rule"), zerolinecolor: colour("rule"), linecolor: colour("rule"), automargin: true };
  return {
    ...layout,
    legend: width < NARROW ? { ...layout.legend, y: layout.barmode ? -0.14 : -0.34, yanchor: "top", font: { size: 12 } } : layout.legend,
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("ink"), size: 13 },
    modebar: { orientation: "v", bgcolor: "transparent", color: colour("soft"), activecolor: colour("ink") },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("rule"), font: { color: colour("ink") } },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
    shapes: (layout.shapes ?? []).map((shape) => ({ ...shape, line: { ...shape.line, color: colour("soft") } })),
  };
}

class FitChart extends HTMLElement {
  connectedCallback() {
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.draw = this.draw.bind(this);
    this.scheme.addEventListener("change", this.draw);
    this.draw();
  }

  disconnectedCallback() {
    this.scheme.removeEventListener("change", this.draw);
    if (this.plot) Plotly.purge(this.plot);
  }

  async draw() {
    const figure = JSON.parse(document.getElementById(this.dataset.figure).textContent);
    if (!this.plot) {
      this.plot = document.createElement("div");
      this.plot.className = "plot";
      this.plot.setAttribute("role", "img");
      this.plot.setAttribute("aria-label", this.dataset.label);
      this.append(this.plot);
    }
    await Plotly.react(this.plot, figure.data.map(painted), themed(figure.layout, this.clientWidth), OPTIONS);
    this.dataset.drawn = "true";
  }
}

customElements.define("fit-chart", FitChart);
