// tests/check/kubernetes.mjs: Kubernetes objects against the schemas of the API.
//
// Reads a JSON list of objects on stdin and prints a JSON list of [index, sentence]: what the
// schemas refuse, and every field that they do not know.
//
// The schemas come as validators compiled from Kubernetes' OpenAPI, and those let unknown fields
// pass. But a validator has to read every field that it knows. So it is given proxies that note what
// is read, and what was never read is unknown. Free maps such as labels are read key by key.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";

// Installed with the browser tests' packages, by ./dev setup.
const require = createRequire(new URL("../browser/package.json", import.meta.url));

// A view of value that adds to seen the path of all that is read through it.
function watched(value, path, seen) {
  if (typeof value !== "object" || value === null) return value;
  const views = new Map();
  return new Proxy(value, {
    get(target, key) {
      const inner = Reflect.get(target, key);
      if (typeof key === "symbol" || !Object.hasOwn(target, key)) return inner;
      seen.add(`${path}/${key}`);
      if (!views.has(key)) views.set(key, watched(inner, `${path}/${key}`, seen));
      return views.get(key);
    },
  });
}

// The paths of value that are not in seen. Below an unknown field everything is unknown; once is enough.
function* unread(value, path, seen) {
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    const here = `${path}/${key}`;
    if (seen.has(here)) yield* unread(inner, here, seen);
    else yield here;
  }
}

// The validator of `apps/v1`, `Deployment`; undefined when Kubernetes has no such thing.
function validator(apiVersion, kind) {
  if (!/^[a-z0-9.]+(\/[a-z0-9]+)?$/.test(apiVersion) || !/^[A-Za-z]+$/.test(kind)) return undefined;
  let model;
  try {
    model = require(`kubernetes-models/${apiVersion}/${kind}`);
  } catch (error) {
    if (["MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"].includes(error.code)) return undefined;
    throw error;
  }
  // The model copies what it is given, and a copy would have read everything: so its schema instead.
  const name = Object.keys(model).find((key) => key.startsWith("Io"));
  const folder = dirname(require.resolve("kubernetes-models"));
  return require(join(folder, "_schemas", `${name}.js`)).validate;
}

function* problems(object) {
  const validate = validator(String(object?.apiVersion), String(object?.kind));
  if (validate === undefined) {
    yield `Kubernetes has no ${object?.apiVersion} ${object?.kind}`;
    return;
  }
  const seen = new Set();
  if (!validate(watched(object, "", seen)))
    for (const error of validate.errors)
      yield `${error.instancePath}: ${error.keyword} ${JSON.stringify(error.params)}`;
  for (const path of unread(object, "", seen)) yield `${path}: unknown field`;
}

const objects = JSON.parse(await text(process.stdin));
const found = objects.flatMap((object, index) => [...problems(object)].map((why) => [index, why]));
process.stdout.write(`${JSON.stringify(found)}\n`);
