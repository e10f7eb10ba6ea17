/** Where the page begins. */

/** A draw of seed 0, on the two dimensions that do most. */
export function initialState(model, activity) {
  const label = model.classes.length ? Math.min(3, model.classes.length - 1) : null;
  const [x, y = x] = activity.order;
  return {
    z: model.sample({ n: 1, seed: 0, label }), label, seed: 0, temperature: 1, prior: "fitted",
    x, y, a: null, b: null, how: "linear", t: 0, plane: "pca", hover: null,
  };
}
