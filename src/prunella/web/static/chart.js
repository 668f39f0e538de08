// Draws what an element's data-chart address answers; the table beside it says the same without a script.
(() => {
  "use strict";
  const draw = async (place) => {
    const answer = await fetch(place.dataset.chart, { headers: { accept: "application/json" } });
    if (!answer.ok || typeof uPlot === "undefined") return;
    const { at, rate, opened } = await answer.json();
    const colour = (name) => {
      const probe = document.createElement("i");
      probe.className = name;
      document.body.append(probe);
      const found = getComputedStyle(probe).color;
      probe.remove();
      return found;
    };
    const [quiet, line, good] = ["quiet", "lined", "good"].map(colour);
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "11px system-ui, sans-serif" };
    const spell = (stamp) => new Date(stamp * 1000).toISOString();
    const days = at.at(-1) - at[0] > 100000;
    const hours = (_, ticks) => ticks.map((one) => (days ? spell(one).slice(5, 10) : spell(one).slice(11, 16)));
    const faint = good.replace(/^rgb\((.*)\)$/, "rgba($1, .12)");
    place.replaceChildren();
    const chart = new uPlot({
      width: place.clientWidth, height: 190, tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1000), "UTC"),
      cursor: { drag: { x: false, y: false } }, legend: { live: true },
      scales: { y: { range: [0, 105] }, n: { range: (_, low, high) => [0, Math.max(4, high) * 3] } },
      axes: [{ ...axis, values: hours }, { ...axis, size: 58, splits: () => [0, 25, 50, 75, 100], values: (_, ticks) => ticks.map((one) => `${one} %`) }],
      series: [
        { label: "from (UTC)", value: (_, one) => (one ? spell(one).slice(0, 16).replace("T", " ") : "") },
        { label: "recovered", scale: "y", stroke: good, width: 2, fill: faint, spanGaps: true, points: { show: true, size: 5, fill: good }, value: (_, one) => (one === null ? "–" : `${one} %`) },
        { label: "began", scale: "n", stroke: quiet, width: 1, paths: uPlot.paths.bars({ size: [0.5, 14] }), points: { show: false }, fill: quiet.replace(/^rgb\((.*)\)$/, "rgba($1, .35)") },
      ],
    }, [at, rate, opened], place);
    chart.setLegend({ idx: at.length - 1 });
    place.chart = chart;
  };
  const all = () => document.querySelectorAll("[data-chart]").forEach((place) => draw(place).catch(() => {}));
  addEventListener("resize", () => document.querySelectorAll("[data-chart]").forEach((place) => place.chart?.setSize({ width: place.clientWidth, height: 190 })));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  document.addEventListener("moved", () => { if (Date.now() - drawn > 30000) { drawn = Date.now(); all(); } });
  let drawn = Date.now();
  all();
})();
