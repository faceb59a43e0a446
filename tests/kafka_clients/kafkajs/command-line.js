// The other side of the command line: kafkajs writes what `bateau consume` reads, and reads what
// `bateau produce` wrote.
//
//   node command-line.js BOOTSTRAP write TOPIC COUNT    keys key-0, key-1, …; gzip; one header
//   node command-line.js BOOTSTRAP read TOPIC COUNT GROUP
//
// Prints one JSON line per record, then one that says done.

const { CompressionTypes, Kafka, logLevel } = require('kafkajs')

const [bootstrap, verb, topic, count, group] = process.argv.slice(2)

const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

async function write(kafka) {
  const producer = kafka.producer()
  await producer.connect()
  const messages = Array.from({ length: Number(count) }, (_, number) => ({
    key: `key-${number}`,
    value: `value ${number}`,
    headers: { source: 'kafkajs' },
  }))
  await producer.send({ topic, messages, compression: CompressionTypes.GZIP })
  await producer.disconnect()
}

async function read(kafka) {
  const consumer = kafka.consumer({ groupId: group })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  let left = Number(count)
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    const eachMessage = async ({ partition, message }) => {
      const text = (bytes) => (bytes === null ? null : bytes.toString())
      const headers = Object.fromEntries(
        Object.entries(message.headers).map(([name, value]) => [name, text(value)]),
      )
      const { offset, timestamp } = message
      const [key, value] = [text(message.key), text(message.value)]
      report('record', { partition, offset: Number(offset), timestamp, key, value, headers })
      left -= 1
      if (left === 0) resolve()
    }
    consumer.run({ eachMessage }).catch(reject)
  })
  await consumer.disconnect()
}

async function main() {
  const kafka = new Kafka({
    clientId: 'command-line',
    brokers: [bootstrap],
    logLevel: logLevel.NOTHING,
  })
  await (verb === 'write' ? write(kafka) : read(kafka))
  report('done')
}

main().then(
  () => process.exit(),
  (error) => {
    report('crashed', { error: error.message })
    process.exit(1)
  },
)
