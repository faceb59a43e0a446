// A test's controls from Node.js: what a kafkajs client does when its broker fails and time flies.
//
//   node test-control.js BOOTSTRAP HTTP
//
// The broker runs with `bateau dev --test-control`. Prints one JSON line for each step, and
// crashes at the first one that does not do what it should.

const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, http] = process.argv.slice(2)

const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

function expect(holds, what) {
  if (!holds) throw new Error(what)
}

async function control(name, body = {}) {
  const response = await fetch(`${http}/test/v1/${name}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const answer = await response.json()
  expect(response.ok, `${name}: ${response.status} ${JSON.stringify(answer)}`)
  return answer
}

async function requests(api) {
  const response = await fetch(`${http}/test/v1/requests?api=${api}`)
  return response.json()
}

async function recordsOf(kafka, topic) {
  const admin = kafka.admin()
  await admin.connect()
  const offsets = await admin.fetchTopicOffsets(topic)
  await admin.disconnect()
  return offsets.reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0)
}

// A broker that is not the leader for a moment: the client asks again, and there is one record.
async function retry(kafka) {
  await control('seed_topic', { topic: 'orders', partitions: 1 })
  await control('fail_next', { api: 'Produce', error: 'NOT_LEADER_OR_FOLLOWER' })
  const producer = kafka.producer()
  await producer.connect()
  await producer.send({ topic: 'orders', messages: [{ key: 'a', value: 'once' }] })
  await producer.disconnect()
  const seen = await requests('Produce')
  expect(seen.counts.Produce === 2, `one refused, one served: ${JSON.stringify(seen)}`)
  const [refused, served] = seen.requests
  expect(refused.fault === 'refused with NOT_LEADER_OR_FOLLOWER', JSON.stringify(refused))
  expect(served.fault === undefined && served.topic === 'orders', JSON.stringify(served))
  const records = await recordsOf(kafka, 'orders')
  expect(records === 1, `exactly one record, not ${records}`)
  report('retried', { records })
}

// An ack that is lost: an idempotent producer sends again, and there is one more record.
async function lostAck(kafka) {
  const producer = kafka.producer({ idempotent: true })
  await producer.connect()
  await control('drop_next_ack')
  await producer.send({ topic: 'orders', messages: [{ key: 'b', value: 'once' }] })
  await producer.disconnect()
  const records = await recordsOf(kafka, 'orders')
  expect(records === 2, `exactly one more record, not ${records - 1}`)
  report('deduplicated', { records })
}

// 46 seconds at once: a session of 45 s expires, and the member joins again.
async function expiry(kafka) {
  const consumer = kafka.consumer({ groupId: 'billing', sessionTimeout: 45_000 })
  const joins = []
  let woken = () => {}
  const joined = (count) =>
    new Promise((resolve) => {
      woken = () => joins.length >= count && resolve()
      woken()
    })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    joins.push(payload.memberId)
    woken()
  })
  await consumer.connect()
  await consumer.subscribe({ topic: 'orders', fromBeginning: true })
  await consumer.run({ eachMessage: async () => {} })
  await joined(1)
  const { advanced_ms } = await control('advance', { ms: 46_000 })
  expect(advanced_ms === 46_000, `the clock is ahead by ${advanced_ms} ms`)
  await joined(2)
  expect(joins[0] !== joins[1], 'the expired member is forgotten')
  await consumer.disconnect()
  report('expired', { joins: joins.length })
}

// A restart in the middle: the port stays, and so does what was written.
async function restart(kafka) {
  await control('restart')
  const records = await recordsOf(kafka, 'orders')
  expect(records === 2, `what was written stays: ${records}`)
  report('restarted', { records })
}

async function main() {
  const kafka = new Kafka({
    clientId: 'test-control',
    brokers: [bootstrap],
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 20 },
  })
  await retry(kafka)
  await lostAck(kafka)
  await expiry(kafka)
  await restart(kafka)
  report('done')
}

main().then(
  () => process.exit(),
  (error) => {
    report('crashed', { error: error.message })
    process.exit(1)
  },
)
