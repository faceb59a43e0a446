'use strict'

// Members of groups, as many as it is told of by lines of standard input.
//
//   node members.js BOOTSTRAP
//   join GROUP TOPIC RoundRobinAssigner      leave GROUP
//
// Prints JSON lines: "assigned" with all partitions that the member has, at every change;
// "consumed" with partition and value; "leading" whenever the member shares out; "left"; "failed".
// What was consumed is committed at once. Waits are shorter than kafkajs' defaults, the rest is not
// touched.

const readline = require('readline')
const { Kafka, PartitionAssigners, logLevel } = require('kafkajs')

const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.ERROR })
const consumers = new Map()

async function join(group, topic) {
  const report = (event, fields) => console.log(JSON.stringify({ event, group, ...fields }))
  const assigner = context => {
    const own = PartitionAssigners.roundRobin(context)
    const assign = ({ members, topics }) => {
      report('leading', { members: members.length })
      return own.assign({ members, topics })
    }
    return { ...own, assign }
  }
  const consumer = kafka.consumer({
    groupId: group,
    partitionAssigners: [assigner],
    heartbeatInterval: 100,
    maxWaitTimeInMs: 100,
  })
  consumers.set(group, { consumer, report })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    report('assigned', { partitions: payload.memberAssignment[topic] ?? [] })
  })
  consumer.on(consumer.events.REBALANCING, () => report('assigned', { partitions: [] }))
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    report('failed', { error: payload.error.message })
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommitThreshold: 1,
    eachMessage: async ({ partition, message }) => {
      report('consumed', { partition, value: message.value.toString() })
    },
  })
}

async function leave(group) {
  const { consumer, report } = consumers.get(group)
  await consumer.disconnect()
  report('assigned', { partitions: [] })
  report('left')
}

const fail = error => {
  console.error(error)
  process.exit(1)
}
const orders = readline.createInterface({ input: process.stdin })
orders.on('line', line => {
  const [order, group, topic] = line.split(' ')
  const done = order === 'join' ? join(group, topic) : leave(group)
  done.catch(fail)
})
orders.on('close', () => process.exit())
