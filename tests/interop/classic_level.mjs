// The real LevelDB in node: npm's classic-level, from the folder in the environment variable CLASSIC_LEVEL.
//
//   node classic_level.mjs apply DIR     operations from stdin, "put KEY VALUE" or "delete KEY" in hex; a batch for each
//                                        empty line
//   node classic_level.mjs dump DIR      every key through an iterator, and once more through get; "KEY VALUE" in hex
//   node classic_level.mjs compact DIR   compacts everything
//   node classic_level.mjs repair DIR    LevelDB's RepairDB
//   node classic_level.mjs write DIR SEED   batches without end; the number of each thousandth on stdout
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { ClassicLevel } = createRequire(process.env.CLASSIC_LEVEL + '/')('classic-level')
const [verb, directory, seed] = process.argv.slice(2)
const hex = bytes => Buffer.from(bytes).toString('hex') || '-'
const unhex = text => Buffer.from(text === '-' ? '' : text, 'hex')

if (verb === 'repair') {
  await ClassicLevel.repair(directory)
  process.exit(0)
}
const db = new ClassicLevel(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer', writeBufferSize: 65536 })
await db.open()

if (verb === 'apply') {
  let batch = []
  for (const line of readFileSync(0, 'latin1').split('\n').concat('')) {
    const [type, key, value] = line.split(' ')
    if (type === 'put') batch.push({ type, key: unhex(key), value: unhex(value) })
    else if (type === 'delete') batch.push({ type: 'del', key: unhex(key) })
    else if (batch.length > 0) {
      await db.batch(batch)
      batch = []
    }
  }
} else if (verb === 'dump') {
  for await (const [key, value] of db.iterator()) {
    const got = await db.get(key)
    if (got === undefined || !got.equals(value)) throw new Error('get and iterator disagree about ' + hex(key))
    console.log(hex(key), hex(value))
  }
} else if (verb === 'compact') {
  await db.compactRange(Buffer.from(''), Buffer.alloc(64, 255))
} else if (verb === 'write') {
  let state = Number(seed)
  const random = below => {
    state = (state * 1103515245 + 12345) % 2147483648
    return Math.floor(state / 65536) % below
  }
  for (let number = 0; ; ++number) {
    const batch = []
    for (let at = random(8); at >= 0; --at) {
      const key = Buffer.from(String(random(3000)))
      if (random(4) === 0) batch.push({ type: 'del', key })
      else batch.push({ type: 'put', key, value: Buffer.from(String(number).repeat(random(30))) })
    }
    await db.batch(batch)
    if (number % 1000 === 999) console.log(number)
  }
}
await db.close()
