// Keys, times that count up, and charts. Every page works without it.
(() => {
  "use strict";
  const one = (selector) => document.querySelector(selector);
  const typing = (event) => event.target.closest("input, select, textarea, [contenteditable]");

  // Times: "3 min ago" goes on counting; the title keeps the moment itself.
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const spell = (seconds) => {
    const size = Math.abs(seconds);
    if (size < 2) return "now";
    const [unit, length] = units.find(([, length]) => size >= length);
    return seconds > 0 ? `${Math.floor(size / length)} ${unit} ago` : `in ${Math.round(size / length)} ${unit}`;
  };
  const tick = () => {
    if (document.hidden) return;
    for (const time of document.querySelectorAll("time.ago")) {
      const told = spell((Date.now() - Date.parse(time.dateTime)) / 1000);
      if (time.textContent !== told) time.textContent = told;
    }
  };
  // The server's clock may differ from this one, so the first text stays until it is a minute old.
  setInterval(tick, 15000);

  // Keys: / filter, g + letter a page, j and k the list, ? help.
  let leader = 0;
  let row = -1;
  const move = (by) => {
    const rows = [...document.querySelectorAll("main tbody tr")].filter((tr) => tr.querySelector("a"));
    if (!rows.length) return;
    rows[row]?.classList.remove("at");
    row = Math.max(0, Math.min(rows.length - 1, row + by));
    rows[row].classList.add("at");
    rows[row].scrollIntoView({ block: "nearest" });
    rows[row].querySelector("a").focus({ preventScroll: true });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.timeStamp - leader < 1500 && leader) {
      leader = 0;
      const link = one(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); }
      return;
    }
    if (event.key === "g") leader = event.timeStamp;
    else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "/") {
      const field = one("form.filter input:not([type=hidden]), form.filter select");
      if (field) { event.preventDefault(); field.focus(); }
    } else if (event.key === "?") one("#keys")?.showModal();
  });

  // On a narrow screen the pages stand in a row: the one that is open has to be in sight.
  one("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // One menu at a time, and none after a click elsewhere.
  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll(".acts details[open]")) if (!open.contains(event.target)) open.open = false;
  });
})();
