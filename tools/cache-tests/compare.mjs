// Holds the results of a run against the failures that are known, and counts them.
//
// node compare.mjs SUITE RESULTS KNOWN
import fs from 'node:fs'

const [suite, results, known] = process.argv.slice(2)
const { default: groups } = await import(`${suite}/tests/index.mjs`)
const outcomes = JSON.parse(fs.readFileSync(results))

// What a cache must do, and what a good one does. The suite's checks only ask how it behaves.
const counts = { required: [0, 0], optimal: [0, 0] }
const failed = new Map()
for (const test of groups.flatMap(group => group.tests)) {
  const kind = test.kind ?? 'required'
  const outcome = outcomes[test.id]
  const depends = (test.depends_on ?? []).some(id => outcomes[id] !== true)
  if (test.browser_only || !(kind in counts) || outcome === undefined || depends) continue
  counts[kind][1] += 1
  if (outcome === true) counts[kind][0] += 1
  else failed.set(test.id, `${kind}: ${outcome[1]}`)
}
for (const [kind, [passed, all]] of Object.entries(counts)) {
  console.log(`${kind}: ${passed} of ${all} pass`)
}

const lines = fs.readFileSync(known, 'utf8').split('\n')
const expected = new Set(lines.filter(line => line && !line.startsWith('#')))
const newly = [...failed].filter(([id]) => !expected.has(id))
const mended = [...expected].filter(id => !failed.has(id))
for (const [id, why] of newly) console.log(`fails: ${id} (${why})`)
for (const id of mended) console.log(`no longer fails: ${id}: take it off ${known}`)
process.exit(newly.length + mended.length === 0 ? 0 : 1)
