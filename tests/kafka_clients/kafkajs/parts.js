'use strict'

// What kafkajs computes without a broker, one question per line of standard input, one answer per
// line of standard output. Fields are divided by tabs; names and bytes are in hex.
//
//   assign  ASSIGNOR  TOPIC:PARTITIONS,...  MEMBER/INSTANCE/METADATA,...  OWN TOPIC,...
//           --> MEMBER/ASSIGNMENT/METADATA AS KAFKAJS WRITES IT,...
//   hash    KEY  PARTITIONS  -->  PARTITION

const readline = require('readline')
const { AssignerProtocol, PartitionAssigners, Partitioners } = require('kafkajs')

const { MemberMetadata } = AssignerProtocol
const text = hex => Buffer.from(hex, 'hex').toString('utf8')
const items = field => (field === '' ? [] : field.split(','))
const partitions = count => Array.from({ length: Number(count) }, (_, number) => number)

async function assign([, topicField, memberField, ownField]) {
  const counts = new Map(items(topicField).map(item => item.split(':')))
  const cluster = {
    findTopicPartitionMetadata: topic =>
      partitions(counts.get(topic) ?? 0).map(partitionId => ({ partitionId })),
  }
  const members = items(memberField).map(item => {
    const [id, , metadata] = item.split('/')
    return { memberId: text(id), memberMetadata: Buffer.from(metadata, 'hex') }
  })
  const assigner = PartitionAssigners.roundRobin({ cluster })
  const answer = await assigner.assign({ members, topics: items(ownField) })
  const assignments = new Map(answer.map(item => [item.memberId, item.memberAssignment]))
  return members
    .map(({ memberId, memberMetadata }) => {
      const { topics } = MemberMetadata.decode(memberMetadata)
      const parts = [
        Buffer.from(memberId),
        // Members for whom nothing is left are not mentioned: they get no bytes.
        assignments.get(memberId) ?? Buffer.alloc(0),
        assigner.protocol({ topics }).metadata,
      ]
      return parts.map(part => part.toString('hex')).join('/')
    })
    .join(',')
}

function hash([key, count]) {
  const partitionMetadata = partitions(count).map(partitionId => ({ partitionId, leader: 0 }))
  const message = { key: Buffer.from(key, 'hex') }
  return Partitioners.DefaultPartitioner()({ topic: 'topic', partitionMetadata, message })
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [question, ...fields] = line.split('\t')
    console.log(question === 'assign' ? await assign(fields) : hash(fields))
  }
}

main()
