/** What a device counts; all but `connections` only grow. */
export interface DeviceCounts {
  /** Known now, with those that wait for an answer or for their end. */
  connections: number;
  /** Requests of the guest that got a RST: nobody listens, or there are too many. */
  refused: number;
  /** Packets without sense: no header, a forged source, more bytes announced than sent. */
  malformed: number;
  /** Packets for a connection that does not exist, answered with RST. */
  unknown: number;
  /** RSTs that found no room to wait for the guest's ring. */
  lostResets: number;
  bytesFromGuest: number;
  bytesToGuest: number;
}

export function createCounts(): DeviceCounts {
  return {
    connections: 0,
    refused: 0,
    malformed: 0,
    unknown: 0,
    lostResets: 0,
    bytesFromGuest: 0,
    bytesToGuest: 0,
  };
}
