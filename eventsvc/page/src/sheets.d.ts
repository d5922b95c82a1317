// A style sheet that is imported is its text; build.mjs sees to that.
declare module "*.css" {
  const text: string;
  export default text;
}
