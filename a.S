.syntax unified
.thumb
 ldrb r1,[r0]
 ldrsb r2,[r0,#1]
 ldrh r3,[r0,#2]
 ldrsh r4,[r0,#4]
 ldr r5,[r0,#8]
 movs r7,#5
 ldrb r6,[r0],#1
 ldrb r8,[r0,#1]!
 ldrd r9,r10,[r0,#14]
 nop
