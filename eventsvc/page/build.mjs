// Bundles src/ into the folder that the service serves: node build.mjs [FOLDER], dist by default.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transformSync } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "dist");

const result = await build({
  absWorkingDir: here,
  entryPoints: ["src/main.js", "src/style.css"],
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome123", "firefox120", "safari17.5"],
  legalComments: "none",
  preserveSymlinks: true,
  plugins: [{ name: "sheets", setup: sheets }],
  metafile: true,
  write: false,
  outdir: "dist",
});

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
let page = readFileSync(join(here, "src/index.html"), "utf8");
for (const file of result.outputFiles) {
  const name = basename(file.path);
  writeFileSync(join(out, name), file.contents);
  page = page.replace(name.replace(/-[A-Z0-9]{8}\./, "."), name);
}
writeFileSync(join(out, "index.html"), page);
writeFileSync(join(out, "licences.txt"), licences(Object.keys(result.metafile.inputs)));

/** A style sheet that a module imports is its text: it goes into a shadow root. */
function sheets(/** @type {import("esbuild").PluginBuild} */ { onLoad }) {
  onLoad({ filter: /editor\.css$/ }, ({ path }) => ({ contents: transformSync(readFileSync(path, "utf8"), { loader: "css", minify: true }).code, loader: "text" }));
}

/** Join the licences of the packages in the bundle. Each licence requires that it is passed on. */
function licences(/** @type {string[]} */ inputs) {
  const packages = new Set(inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
  return [...packages].sort().map(licence).join("\n\n");
}

function licence(/** @type {string} */ name) {
  const folder = join(here, "node_modules", name);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return `${name} ${version}\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}\n`;
}
