// Publishes numbers over TLS and reads them back, in one process.
//
//   node encrypted-service.js BOOTSTRAP CA_FILE
//
// It stops on SIGTERM, once everything that was acknowledged has come back, and prints one JSON
// line for each acknowledgement and each delivery. But for `ssl`, kafkajs runs on its defaults.

const fs = require('node:fs')
const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, caFile] = process.argv.slice(2)
const kafka = new Kafka({
  clientId: 'encrypted-service',
  brokers: [bootstrap],
  ssl: { ca: [fs.readFileSync(caFile)] },
  logLevel: logLevel.NOTHING,
  // A certificate that is not trusted does not become so by asking again.
  retry: { retries: 1 },
})
const topic = 'encrypted'
const producer = kafka.producer()
const consumer = kafka.consumer({ groupId: 'encrypted-service' })

let stopping = false
process.on('SIGTERM', () => {
  stopping = true
})

const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function main() {
  try {
    await producer.connect()
  } catch (error) {
    report('refused', { error: error.message })
    process.exitCode = 1
    return
  }
  const outstanding = new Set()
  let number = 0
  const publish = async () => {
    number += 1
    outstanding.add(number)
    await producer.send({ topic, messages: [{ value: `${number}`, headers: { n: `${number}` } }] })
    report('acked', { number })
  }
  await publish()
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ message }) => {
      outstanding.delete(Number(message.value))
      report('received', { number: Number(message.value) })
    },
  })
  while (!stopping) {
    await publish()
    await pause(5)
  }
  while (outstanding.size > 0) await pause(5)
  await consumer.disconnect()
  await producer.disconnect()
  report('stopped', { number })
}

main().catch((error) => {
  report('failed', { error: error.stack })
  process.exit(1)
})
