// The order service: publishes orders to the topic `order-created`, one after the other.
//
//   node order-service.js [FIRST_ORDER_ID] [COUNT] [PAUSE_MS]
//
// It stops after COUNT orders (default: never) or on SIGTERM, and prints one JSON line for each
// order that the broker acknowledged. kafkajs runs on its defaults.

const { Kafka } = require('kafkajs')

const firstOrderId = Number(process.argv[2] ?? 1)
const count = Number(process.argv[3] ?? Infinity)
const pauseMs = Number(process.argv[4] ?? 0)

const kafka = new Kafka({
  clientId: 'order-service',
  brokers: ['localhost:9092'],
})
const producer = kafka.producer()

let stopping = false
process.on('SIGTERM', () => {
  stopping = true
})

const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

function newOrder(orderId) {
  const customerId = `customer-${(orderId * 7919) % 97}`
  const items = [
    { sku: `sku-${orderId % 13}`, quantity: 1 + (orderId % 3) },
    { sku: `sku-${orderId % 17}`, quantity: 1 },
  ]
  return { orderId, customerId, items }
}

async function publish(order) {
  const [{ partition, baseOffset }] = await producer.send({
    topic: 'order-created',
    messages: [{ key: order.customerId, value: JSON.stringify(order) }],
  })
  report('acked', { orderId: order.orderId, partition, offset: baseOffset })
}

async function main() {
  await producer.connect()
  report('connected')
  let failedCount = 0
  let publishedCount = 0
  while (publishedCount < count && !stopping) {
    const order = newOrder(firstOrderId + publishedCount)
    report('sending', { orderId: order.orderId })
    try {
      await publish(order)
    } catch (error) {
      failedCount += 1
      report('failed', { orderId: order.orderId, error: error.message })
    }
    publishedCount += 1
    if (pauseMs > 0) await pause(pauseMs)
  }
  await producer.disconnect()
  report('stopped', { publishedCount, failedCount })
}

main().then(
  () => process.exit(),
  (error) => {
    report('crashed', { error: error.message })
    process.exit(1)
  },
)
