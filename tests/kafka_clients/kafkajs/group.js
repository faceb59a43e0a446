'use strict'

// A group that takes records, ends, and goes on where it was.
//
//   node group.js kafkajs BOOTSTRAP group TOPIC GROUP
//
// Writes 40 records. One consumer takes 20 and commits them, the next one takes the others. Prints
// `resumed`.

const { Kafka, logLevel } = require('kafkajs')

const COUNT = 40

const [, bootstrap, , topic, groupId] = process.argv.slice(2)
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING })

const values = Array.from({ length: COUNT }, (_, number) => `value-${number}`)

async function produce() {
  const producer = kafka.producer()
  await producer.connect()
  for (const value of values) await producer.send({ topic, messages: [{ value }] })
  await producer.disconnect()
}

// Takes so many records, commits behind them, and leaves.
async function consume(count) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const taken = []
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    const eachMessage = async ({ partition, message }) => {
      if (taken.length === count) return
      taken.push(message.value.toString())
      const offset = String(BigInt(message.offset) + 1n)
      await consumer.commitOffsets([{ topic, partition, offset }])
      if (taken.length === count) resolve()
    }
    consumer.run({ autoCommit: false, eachMessage }).catch(reject)
  })
  await consumer.disconnect()
  return taken
}

async function main() {
  await produce()
  const first = await consume(COUNT / 2)
  const second = await consume(COUNT - first.length)
  const found = [...first, ...second]
  if (found.join() !== values.join()) throw new Error(`found ${found}`)
  console.log(JSON.stringify({ event: 'resumed', first: first.length, second: second.length }))
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
