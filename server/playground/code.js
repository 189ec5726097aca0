// The request that was made, for other programs. The key is never shown.
import { address, key } from "./api.js";

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
// JSON's strings are Python's, and its escapes too
const python = (value) => JSON.stringify(value, null, 4).replace(/^ {4}/gm, "        ").replace(/\n}$/, "\n    }");

export function asCurl(parts) {
  const access = key() ? " \\\n  -H \"Authorization: Bearer $KEY\"" : "";
  const target = quote(address(parts.path));
  if (parts.json) return `curl ${target}${access} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quote(JSON.stringify(parts.json))}`;
  return `curl ${target}${access} \\\n  -H ${quote(`Content-Type: ${parts.type}`)} \\\n  --data-binary @${quote(parts.name)}`;
}

export function asPython(parts) {
  const headers = parts.json ? [] : [`"Content-Type": ${JSON.stringify(parts.type)}`];
  if (key()) headers.push('"Authorization": f"Bearer {os.environ[\'KEY\']}"');
  const lines = [...(key() ? ["import os", ""] : []), "import requests", "", "reply = requests.post("];
  lines.push(`    ${JSON.stringify(address("inference"))},`);
  if (parts.json) lines.push(`    json=${python(parts.json)},`);
  else {
    const pairs = [...parts.query].map(([name, value]) => `(${JSON.stringify(name)}, ${JSON.stringify(value)})`);
    lines.push(`    params=[${pairs.join(", ")}],`, `    data=open(${JSON.stringify(parts.name)}, "rb").read(),`);
  }
  if (headers.length) lines.push(`    headers={${headers.join(", ")}},`);
  lines.push("    timeout=150,", ")", "reply.raise_for_status()", "print(reply.json())");
  return lines.join("\n");
}
