// The import of a style sheet gives its text; the plugin in build.mjs does this.
declare module "*.css" {
  const text: string;
  export default text;
}
