'use strict'

// Moves every partition of a topic, and waits until none is on its way.
//
//   node reassign.js BOOTSTRAP TOPIC PARTITIONS NODES
//
// NODES are ids with commas between them, the preferred leader first. Prints `refused` with the
// broker's words, or `moved` with how many partitions were seen on their way.

const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, topic, partitions, nodes] = process.argv.slice(2)
const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }))
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

async function main() {
  const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  const replicas = nodes.split(',').map(Number)
  const numbers = [...Array(Number(partitions)).keys()]
  const partitionAssignment = numbers.map(partition => ({ partition, replicas }))
  try {
    await admin.alterPartitionReassignments({ topics: [{ topic, partitionAssignment }] })
  } catch (error) {
    const errors = (error.errors || [error]).map(one => one.type || String(one))
    report('refused', { errors })
    process.exit(0)
  }
  let seen = 0
  for (;;) {
    const { topics } = await admin.listPartitionReassignments({
      topics: [{ topic, partitions: numbers }],
    })
    const left = topics.flatMap(one => one.partitions).length
    if (left === 0) break
    seen = Math.max(seen, left)
    await pause(20)
  }
  await admin.disconnect()
  report('moved', { seen })
  process.exit(0)
}

main().catch(error => {
  report('failed', { error: String(error) })
  process.exit(1)
})
