// The inventory service: consumes `order-created` in the group `inventory-group`, from the
// beginning, and takes each order's items out of stock.
//
//   node inventory-service.js [CLIENT_ID]
//
// It leaves its group on SIGTERM. One JSON line is printed for each order delivered, and for
// each assignment, commit and crash that kafkajs tells of. kafkajs runs on its defaults.

const { Kafka } = require('kafkajs')

const kafka = new Kafka({
  clientId: process.argv[2] ?? 'inventory-service',
  brokers: ['localhost:9092'],
})
const consumer = kafka.consumer({ groupId: 'inventory-group' })
const stock = new Map()

const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  const partitions = payload.memberAssignment['order-created'] ?? []
  report('joined', { memberId: payload.memberId, isLeader: payload.isLeader, partitions })
})
consumer.on(consumer.events.COMMIT_OFFSETS, ({ payload }) => {
  const offsets = payload.topics.flatMap(({ partitions }) => partitions)
  report('committed', { generation: payload.groupGenerationId, offsets })
})
consumer.on(consumer.events.REBALANCING, () => report('rebalancing'))
consumer.on(consumer.events.CRASH, ({ payload }) => {
  report('crash', { error: payload.error.message, restart: payload.restart })
})

function takeFromStock(items) {
  for (const { sku, quantity } of items) stock.set(sku, (stock.get(sku) ?? 0) - quantity)
}

async function stop() {
  await consumer.disconnect()
  report('stopped')
}
process.on('SIGTERM', () => {
  stop().finally(() => process.exit())
})

async function main() {
  await consumer.connect()
  await consumer.subscribe({ topic: 'order-created', fromBeginning: true })
  report('subscribed')
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      const { orderId, customerId, items } = JSON.parse(message.value.toString())
      takeFromStock(items)
      report('delivered', { partition, offset: message.offset, orderId, customerId })
    },
  })
}

main().catch((error) => {
  report('crashed', { error: error.message })
  process.exit(1)
})
