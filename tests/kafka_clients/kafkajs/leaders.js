// Leaders that move and die under an idempotent kafkajs producer, which knows every node.
//
//   node leaders.js BOOTSTRAP,BOOTSTRAP,BOOTSTRAP HTTP
//
// The nodes run with `bateau dev --nodes 3 --test-control`; HTTP is the door of node 1. Prints one
// JSON line for each step, and crashes at the first one that does not do what it should.

const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, http] = process.argv.slice(2)
const topic = 'orders'

const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

function expect(holds, what) {
  if (!holds) throw new Error(what)
}

async function ask(path, body) {
  const post = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  }
  const response = await fetch(`${http}/test/v1/${path}`, body && post)
  const answer = await response.json()
  expect(response.ok, `${path}: ${response.status} ${JSON.stringify(answer)}`)
  return answer
}

// Sends numbers, one after the other, until it is told to end; each is acknowledged.
function sending(producer, numbers) {
  let goesOn = true
  const sent = (async () => {
    while (goesOn) {
      const value = String(numbers.length)
      await producer.send({ topic, messages: [{ value }] })
      numbers.push(value)
    }
  })()
  return async () => {
    goesOn = false
    await sent
  }
}

async function expectAll(numbers) {
  const { records } = await ask(`records?topic=${topic}`)
  const found = records.map(({ value }) => value)
  expect(found.join() === numbers.join(), `${found} instead of ${numbers}`)
  return found.length
}

async function leader() {
  const { node } = await ask(`leader?topic=${topic}&partition=0`)
  return node
}

async function main() {
  const kafka = new Kafka({
    clientId: 'leaders',
    brokers: bootstrap.split(','),
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 20, retries: 50 },
  })
  await ask('seed_topic', { topic, partitions: 1 })
  const numbers = []
  const producer = kafka.producer({ idempotent: true })
  await producer.connect()

  let end = sending(producer, numbers)
  for (const node of [2, 3, 1, 3, 2]) {
    await ask('move_leader', { topic, partition: 0, node })
    expect((await leader()) === node, `node ${node} leads`)
  }
  await end()
  report('moved', { records: await expectAll(numbers) })

  end = sending(producer, numbers)
  await ask('kill', { node: 2 })
  const before = numbers.length
  while (numbers.length < before + 5) await new Promise(setImmediate)
  await ask('restart', { node: 2 })
  await ask('move_leader', { topic, partition: 0, node: 2 })
  await end()
  report('survived', { records: await expectAll(numbers) })
  await producer.disconnect()
  report('done')
}

main().then(
  () => process.exit(),
  (error) => {
    report('crashed', { error: error.message })
    process.exit(1)
  },
)
