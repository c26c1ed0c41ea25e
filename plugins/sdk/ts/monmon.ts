// For matchers of monmon: the types of plugins/wit/matcher.wit, and what a plugin's JavaScript engine lacks.

import { log as hostLog } from "monmon:matcher/host@0.1.0";

export type Level = "debug" | "info" | "warn" | "error";

/** Writes a line to monmon's log. */
export function log(level: Level, message: string): void {
  hostLog(level, message);
}

/** One thing that `config { }` in the pipeline file may say. */
export interface Parameter {
  /** Lower case, with hyphens: a JSON key of the configuration. */
  name: string;
  kind: "boolean" | "integer" | "number" | "text";
  /** Any number of values: a JSON array. */
  many: boolean;
  required: boolean;
  default?: string;
  /** For texts: the only values allowed. */
  oneOf: string[];
  min?: number;
  max?: number;
  help: string;
}

/** What a plugin is. `describe` must always say the same. */
export interface Description {
  name: string;
  version: string;
  help: string;
  needs: { body: boolean; headers: boolean };
  parameters: Parameter[];
}

export interface Header {
  /** In lower case. */
  name: string;
  value: Uint8Array;
}

/** In microseconds; undefined for what did not take place. */
export interface Phases {
  dnsUs?: bigint;
  connectUs?: bigint;
  tlsUs?: bigint;
  waitUs?: bigint;
  transferUs?: bigint;
  totalUs: bigint;
}

/** What the site answered. */
export interface Response {
  url: string;
  status: number;
  headers: Header[];
  body: Uint8Array;
  bodyTruncated: boolean;
  phases: Phases;
}

export interface Metric {
  name: string;
  value: number;
  /** Such as "ms"; "" for a bare number. */
  unit: string;
}

/** The plugin's word on a response. An error that `check` throws says that it could not be decided. */
export interface Verdict {
  matched: boolean;
  /** Why, in one line. */
  message?: string;
  values: [string, string][];
  metrics: Metric[];
}

/** A parameter with what most have. */
export function parameter(
  name: string,
  kind: Parameter["kind"],
  help: string,
  more: Partial<Parameter> = {},
): Parameter {
  return { name, kind, help, many: false, required: false, oneOf: [], ...more };
}

/** So many bytes are looked at at once. */
const PIECE = 4096;

/** Bytes as text: UTF-8, where what is broken becomes U+FFFD. The engine has no TextDecoder. */
export function decode(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    // Nearly all of most pages is ASCII, which the engine's own functions take whole.
    const end = Math.min(at + PIECE, bytes.length);
    const text = String.fromCharCode.apply(null, bytes.subarray(at, end) as unknown as number[]);
    if (/^[\x00-\x7f]*$/.test(text)) {
      parts.push(text);
      at = end;
    } else {
      at = decodePiece(bytes, at, end, parts);
    }
  }
  return parts.join("");
}

/** Decodes what begins before `end`; gives where that ends. */
function decodePiece(bytes: Uint8Array, at: number, end: number, parts: string[]): number {
  const units: number[] = [];
  while (at < end) {
    const first = bytes[at];
    if (first < 0x80) {
      units.push(first);
      at++;
      continue;
    }
    let size = first >= 0xc2 && first < 0xe0 ? 2 : first >> 4 === 0xe ? 3 : first >> 3 === 0x1e ? 4 : 0;
    let code = first & (0x7f >> size);
    for (let next = 1; next < size; next++) {
      const byte = bytes[at + next];
      if (byte === undefined || byte >> 6 !== 2) {
        size = 0;
        break;
      }
      code = (code << 6) | (byte & 0x3f);
    }
    const least = [Infinity, 0, 0x80, 0x800, 0x10000][size];
    const sound = code >= least && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    at += sound ? size : 1;
    if (!sound) {
      units.push(0xfffd);
    } else if (code > 0xffff) {
      units.push(0xd800 | ((code - 0x10000) >> 10), 0xdc00 | ((code - 0x10000) & 0x3ff));
    } else {
      units.push(code);
    }
  }
  parts.push(String.fromCharCode.apply(null, units));
  return at;
}

/** All headers of this name, in order. */
export function headers(response: Response, name: string): string[] {
  const wanted = name.toLowerCase();
  return response.headers.filter((header) => header.name === wanted).map((header) => decode(header.value));
}
