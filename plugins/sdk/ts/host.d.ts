declare module "monmon:matcher/host@0.1.0" {
  export function log(level: "debug" | "info" | "warn" | "error", message: string): void;
}
