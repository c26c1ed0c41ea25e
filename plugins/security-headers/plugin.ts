// Grades the headers by which a site tells browsers to be careful, from A (all are there and mean something) to F.
// What each should say follows the OWASP Secure Headers Project.

import { type Description, type Response, type Verdict, headers, parameter } from "./monmon-sdk/monmon.js";

const GRADES = ["A", "B", "C", "D", "E", "F"];
/** Half a year, in seconds: less protects few of those who come back. */
const HSTS_LEAST = 15_552_000;

let least = "B";

export function describe(): Description {
  return {
    name: "security-headers",
    version: "0.1.0",
    help: "grades the security headers of a response, from A to F",
    needs: { body: false, headers: true },
    parameters: [
      parameter("least", "text", "the worst grade that is good", { oneOf: GRADES, default: "B" }),
    ],
  };
}

export function configure(config: string): void {
  least = JSON.parse(config).least ?? "B";
}

/** Each with what it is worth; the text says what is wrong, or is empty. */
const RULES: [name: string, points: number, judge: (value: string, response: Response) => string][] = [
  ["strict-transport-security", 25, judgeHsts],
  ["content-security-policy", 25, judgePolicy],
  ["x-content-type-options", 15, (value) => (value.toLowerCase() === "nosniff" ? "" : "is not nosniff")],
  ["frame protection", 15, judgeFrames],
  ["referrer-policy", 10, judgeReferrer],
  ["permissions-policy", 10, (value) => (value === "" ? "is missing" : "")],
];

export function check(response: Response): Verdict {
  const values: [string, string][] = [];
  let points = 0;
  let possible = 0;
  const wrong: string[] = [];
  for (const [name, worth, judge] of RULES) {
    // Browsers take HSTS only over TLS.
    if (name === "strict-transport-security" && !response.url.toLowerCase().startsWith("https:")) continue;
    possible += worth;
    const complaint = judge(headers(response, name).join(", ").trim(), response);
    if (complaint === "") {
      points += worth;
    } else {
      wrong.push(`${name} ${complaint}`);
      values.push([name.replaceAll(" ", "-"), complaint]);
    }
  }
  const score = Math.round((100 * points) / possible);
  const grade = gradeOf(score);
  values.push(["grade", grade]);
  const matched = GRADES.indexOf(grade) <= GRADES.indexOf(least);
  return {
    matched,
    message: wrong.length === 0 ? undefined : `grade ${grade}: ${wrong.join("; ")}`,
    values,
    metrics: [{ name: "score", value: score, unit: "%" }],
  };
}

function gradeOf(score: number): string {
  const bounds = [95, 80, 65, 50, 30];
  const at = bounds.findIndex((bound) => score >= bound);
  return GRADES[at < 0 ? GRADES.length - 1 : at];
}

function judgeHsts(value: string): string {
  if (value === "") return "is missing";
  const age = /(?:^|[;,])\s*max-age\s*=\s*"?(\d{1,12})"?/i.exec(value);
  if (age === null) return "has no max-age";
  return Number(age[1]) < HSTS_LEAST ? `lasts ${age[1]} s, less than ${HSTS_LEAST}` : "";
}

function judgePolicy(value: string): string {
  if (value === "") return "is missing";
  const directives = new Map<string, string>();
  for (const directive of value.toLowerCase().split(/[;,]/)) {
    const [name, ...sources] = directive.trim().split(/\s+/);
    if (name !== "" && !directives.has(name)) directives.set(name, sources.join(" "));
  }
  const scripts = directives.get("script-src") ?? directives.get("default-src");
  if (scripts === undefined) return "says nothing of scripts";
  const guarded = /'nonce-|'sha(256|384|512)-|'strict-dynamic'/.test(scripts);
  if (scripts.includes("'unsafe-inline'") && !guarded) return "allows inline scripts";
  return /(^|\s)(\*|https?:|data:)(\s|$)/.test(scripts) && !guarded ? "allows scripts from anywhere" : "";
}

function judgeFrames(_value: string, response: Response): string {
  const policy = headers(response, "content-security-policy").join(";").toLowerCase();
  const ancestors = /frame-ancestors\s+([^;,]*)/.exec(policy);
  if (ancestors !== null) return /(^|\s)\*(\s|$)/.test(ancestors[1]) ? "lets anyone frame the page" : "";
  const option = headers(response, "x-frame-options").join(", ").trim().toLowerCase();
  if (option === "") return "is missing";
  return option === "deny" || option === "sameorigin" ? "" : "is neither deny nor sameorigin";
}

function judgeReferrer(value: string): string {
  if (value === "") return "is missing";
  // Of several, browsers take the last that they know.
  const last = value.toLowerCase().split(",").at(-1)?.trim() ?? "";
  return last === "unsafe-url" || last === "no-referrer-when-downgrade" ? `is ${last}` : "";
}
