// Parses the Mermaid diagrams of the pages that are named, with the parser that
// Git hosts show them with. Ends with 1 if one is not valid, or if there is none.
import fs from 'node:fs';
import { JSDOM } from 'jsdom';

const { window } = new JSDOM('<body></body>');
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import('mermaid');

let diagrams = 0;
let invalid = 0;
for (const page of process.argv.slice(2)) {
  for (const [, text] of fs.readFileSync(page, 'utf8').matchAll(/```mermaid\n([\s\S]*?)```/g)) {
    diagrams++;
    try {
      await mermaid.parse(text);
    } catch (error) {
      invalid++;
      console.log(`${page}: diagram ${diagrams}: ${error.message}`);
    }
  }
}
console.log(`${diagrams} diagrams, ${invalid} invalid`);
process.exit(diagrams === 0 || invalid > 0 ? 1 : 0);
