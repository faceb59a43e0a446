'use strict'

// A producer that writes on while brokers die.
//
//   node steady.js BOOTSTRAP TOPIC PARTITIONS FIRST
//
// Sends the numbers from FIRST on, as eight bytes, to the partitions in turn, one after the other,
// until standard input says `stop` or ends. A number that fails is left and reported. Prints
// `first_ack`, and at the end `sent`, with [partition, offset, number] of each acknowledgement.

const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, topic, partitions, first] = process.argv.slice(2)
const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

let stopping = false
process.stdin.on('data', () => (stopping = true)).on('end', () => (stopping = true))

function bytes(number) {
  const value = Buffer.alloc(8)
  value.writeBigUInt64BE(BigInt(number))
  return value
}

async function main() {
  const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
  const producer = kafka.producer({ idempotent: true, retry: { retries: 30, maxRetryTime: 500 } })
  await producer.connect()
  const acked = []
  const failed = []
  let number = Number(first)
  for (; !stopping; number += 1) {
    const partition = number % Number(partitions)
    try {
      const [answer] = await producer.send({
        topic,
        acks: -1,
        messages: [{ value: bytes(number), partition }],
      })
      if (acked.length === 0) report('first_ack')
      acked.push([partition, Number(answer.baseOffset), number])
    } catch (error) {
      failed.push(String(error))
    }
    await pause(5)
  }
  await producer.disconnect()
  report('sent', { acked, failed, next: number })
  process.exit(0)
}

main()
