/** A chart of the posterior q(z | image): one whisker per slider, from mean - 2 to mean + 2 standard deviations. */

import { h } from "./dom.js";

const TALL = 90;
const WIDE = 14;

/** Returns { node, show({ mu, logVar }) }. Dimensions have the order and the ranges of the sliders. */
export function posteriorChart({ model, activity, range }) {
  const svg = "http://www.w3.org/2000/svg";
  const node = document.createElementNS(svg, "svg");
  node.setAttribute("viewBox", `0 0 ${WIDE * model.prior.coordinates} ${TALL}`);
  node.setAttribute("class", "posterior");
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", "Posterior");
  const make = (tag, marks) => {
    const mark = document.createElementNS(svg, tag);
    for (const [key, value] of Object.entries(marks)) mark.setAttribute(key, value);
    return mark;
  };
  return {
    node,
    show({ mu, logVar }) {
      const texts = [];
      const marks = Array.from(activity.order, (dim, place) => {
        const { low, high } = range(dim);
        const y = (value) => TALL * (1 - Math.min(1.02, Math.max(-0.02, (value - low) / (high - low))));
        const mean = model.prior.coordinate(mu, dim);
        const deviation = logVar ? deviationOf(model.prior, logVar, dim) : 0;
        const x = WIDE * (place + 0.5);
        texts.push(`z${dim} ${mean.toFixed(2)}${logVar ? ` ± ${deviation.toFixed(2)}` : ""}`);
        const group = make("g", { class: activity.active[dim] ? "active" : "inactive" });
        group.append(
          make("line", { class: "rail", x1: x, x2: x, y1: 0, y2: TALL }),
          make("line", { class: "whisker", x1: x, x2: x, y1: y(mean - 2 * deviation), y2: y(mean + 2 * deviation) }),
          make("circle", { cx: x, cy: y(mean), r: 3 }),
        );
        const title = make("title", {});
        title.textContent = texts.at(-1);
        group.append(title);
        return group;
      });
      node.replaceChildren(...marks);
      node.setAttribute("aria-label", `Posterior: ${texts.join(", ")}`);
    },
  };
}

/** The standard deviation of a coordinate, from the log variances of the latents. */
function deviationOf({ directions }, logVar, dim) {
  const direction = directions[dim];
  if (!direction) return Math.exp(logVar[dim] / 2);
  return Math.sqrt(direction.reduce((sum, value, i) => sum + value ** 2 * Math.exp(logVar[i]), 0));
}
