// A plugin of monmon: looks for words in the body of a page.

import { type Description, type Response, type Verdict, decode, parameter } from "./monmon-sdk/monmon.js";

let words: string[] = [];

export function describe(): Description {
  return {
    name: "plugin-name",
    version: "0.1.0",
    help: "looks for words in the body",
    needs: { body: true, headers: false },
    parameters: [parameter("words", "text", "words that the body must have", { many: true, required: true })],
  };
}

export function configure(config: string): void {
  words = JSON.parse(config).words;
}

export function check(response: Response): Verdict {
  const text = decode(response.body);
  const missing = words.find((word) => !text.includes(word));
  return {
    matched: missing === undefined,
    message: missing === undefined ? undefined : `\`${missing}\` is missing`,
    values: [],
    metrics: [{ name: "size", value: response.body.length, unit: "bytes" }],
  };
}
