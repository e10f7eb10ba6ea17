/** Cards in one, two or three columns. They are moved, not reordered by style: focus follows the eye. */

const LAYOUTS = [
  ["(min-width: 1180px)", [["stage", "draw"], ["labels", "grid", "morph", "share"], ["sliders", "map"]]],
  ["(min-width: 760px)", [["stage", "draw", "sliders"], ["labels", "grid", "morph", "map", "share"]]],
  ["all", [["stage", "labels", "sliders", "grid", "draw", "map", "morph", "share"]]],
];

/** Put the panels (some may be null) into `main`, again whenever the window's width asks for it. */
export function arrange(main, panels, signal) {
  const queries = LAYOUTS.map(([query]) => matchMedia(query));
  const place = () => {
    const columns = LAYOUTS[queries.findIndex((query) => query.matches)][1];
    main.dataset.columns = String(columns.length);
    main.replaceChildren(...columns.map((names) => {
      const column = document.createElement("div");
      column.append(...names.map((name) => panels[name]).filter(Boolean));
      return column;
    }));
  };
  for (const query of queries) query.addEventListener("change", place, { signal });
  place();
}
